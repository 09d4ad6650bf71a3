"""Averages of any width, from training to a model that is sampled and measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from command import TINY, Ddpm, assert_refused, files_below, run_ddpm
from safetensors.torch import load_file

import ddpm_cli
from ddpm_cli.runs.checkpoints import list_checkpoints, load_checkpoint
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.training.averages.snapshots import list_snapshots

STEPS = 24
MADE = f"width-0.2-step-{STEPS:08d}.safetensors"
LINE = (*TINY, "--set=ema.widths=[0.05,0.1]", "--set=checkpoint.every=10", "--set=schedule.timesteps=50", "--device=cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`runs/kept` of 24 steps, of which the last two checkpoints are left, and `runs/plain` without averages."""
    folder = tmp_path_factory.mktemp("averages")
    for name, line in {"kept": LINE, "plain": TINY}.items():
        done = run_ddpm("train", *line, f"--steps={STEPS if name == 'kept' else 2}", f"--name={name}", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def weights_of(path: Path) -> torch.Tensor:
    return torch.cat([tensor.flatten() for _, tensor in sorted(load_file(path).items())])


def test_snapshots_are_kept_where_checkpoints_go(folder: Path) -> None:
    run = RunDirectory(folder / "runs/kept")
    assert [one.step for one in list_snapshots(run, 100)] == [8, 9, 10, 11, 13, 15, 17, 19, 21, 24]
    assert len(list_checkpoints(run)) < 4


def test_a_width_that_was_kept_is_what_the_checkpoint_holds(ddpm_here: Ddpm, folder: Path) -> None:
    done = ddpm_here("ema", "kept", "--width=0.1", "--out=kept.safetensors", cwd=folder)
    assert done.returncode == 0, done.stderr
    held = load_checkpoint(folder / f"runs/kept/checkpoints/step-{STEPS:08d}").tensors("averages")
    made = load_file(folder / "kept.safetensors")
    for name, tensor in made.items():
        torch.testing.assert_close(tensor, held[f"1.{name}"], rtol=1e-6, atol=1e-7)


def test_another_is_one_that_training_tracked(ddpm_here: Ddpm, folder: Path, tmp_path: Path) -> None:
    """A run of the same bits that keeps that width itself."""
    wide = (*LINE, "--set=ema.widths=[0.07,0.15]", f"--steps={STEPS}", "--name=tracked")
    assert ddpm_here("train", *wide, cwd=tmp_path).returncode == 0
    held = load_checkpoint(tmp_path / f"runs/tracked/checkpoints/step-{STEPS:08d}").tensors("averages")
    for number, width in enumerate((0.07, 0.15)):
        done = ddpm_here("ema", "kept", f"--width={width}", "--out=x.safetensors", "--json", cwd=folder)
        assert json.loads(done.stdout)["models"][0]["width"] == width
        tracked = torch.cat([held[f"{number}.{name}"].flatten() for name in sorted(load_file(folder / "x.safetensors"))])
        made = weights_of(folder / "x.safetensors")
        assert (made - tracked).norm() / tracked.norm() < 1e-3


def test_a_resumed_run_keeps_the_same_averages_to_the_bit(ddpm_here: Ddpm, folder: Path, tmp_path: Path) -> None:
    assert ddpm_here("train", *LINE, "--steps=14", "--name=kept", cwd=tmp_path).returncode == 0
    later = tmp_path / "runs/kept/averages/step-00000031.safetensors"
    shutil.copy(folder / "runs/kept/averages/step-00000009.safetensors", later)  # of a course that was left
    assert ddpm_here("resume", "kept", f"--steps={STEPS}", cwd=tmp_path).returncode == 0
    assert not later.exists()
    for path in (folder / "runs/kept/averages").glob("step-*"):
        assert torch.equal(weights_of(path), weights_of(tmp_path / "runs/kept/averages" / path.name)), path.name
    last = f"runs/kept/checkpoints/step-{STEPS:08d}/averages.safetensors"
    assert torch.equal(weights_of(folder / last), weights_of(tmp_path / last))


def test_the_file_is_sampled_exported_and_measured_in_its_run(
    ddpm_here: Ddpm, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(folder / "cache"))
    for width in ("0.05", "0.2"):
        assert ddpm_here("ema", "kept", f"--width={width}", cwd=folder).returncode == 0
        path = f"runs/kept/averages/width-{width}-step-{STEPS:08d}.safetensors"
        done = ddpm_here("evaluate", path, "--n=70", "--sampler=ddim", "--steps=2", cwd=folder)
        assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (folder / "runs/kept/evaluations/figures.jsonl").read_text().splitlines()]
    assert [row["details"]["ema_width"] for row in rows] == [0.05, 0.2]
    assert rows[0]["value"] != rows[1]["value"]
    sampled = ddpm_here("sample", path, "--n=1", "--steps=2", "--no-preview", cwd=folder)
    assert "width 0.2" in sampled.stderr
    assert ddpm_here("export", path, "--out=again.safetensors", cwd=folder).returncode == 0
    assert torch.equal(weights_of(folder / "again.safetensors"), weights_of(folder / path))
    assert "average of width 0.2" in ddpm_here("info", "again.safetensors", cwd=folder).stdout
    assert ddpm_here("report", "kept", "--no-trajectory", "--out=report.html", cwd=folder).returncode == 0
    assert "fcd over the width of the average" in (folder / "report.html").read_text()


def test_python_makes_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (made,) = ddpm_cli.ema("kept", 0.2, out="python.safetensors")
    assert (made.width, made.step, made.path) == (0.2, STEPS, Path("python.safetensors"))
    (other,) = ddpm_cli.ema("kept", [0.2], step=20)
    assert other.path == Path("runs/kept/averages/width-0.2-step-00000020.safetensors")
    assert not torch.equal(weights_of(folder / made.path), weights_of(folder / other.path))


REFUSED = {
    "too wide": (["kept", "--width=0.3"], ["--width", "at most 0.28", "0.3"]),
    "none": (["kept", "--width=0"], ["--width", "above 0"]),
    "no number": (["kept", "--width=wide"], ["'wide' is no number", "0.05,0.1"]),
    "no such step": (["kept", "--step=14"], ["--step 14", "There are: 8, 9"]),
    "kept none": (["plain"], ["kept no averages", "ema.widths"]),
    "one file for two": (["kept", "--width=0.1,0.2", "--out=x.safetensors"], ["--out names one file"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_made_is_refused_and_nothing_is_written(ddpm_here: Ddpm, folder: Path, name: str) -> None:
    arguments, words = REFUSED[name]
    before = files_below(folder)
    assert_refused(ddpm_here("ema", *arguments, cwd=folder), *words)
    assert files_below(folder) == before


@pytest.mark.parametrize("widths", ["[0.05,0.29]", "[0,0.1]", "[0.1,0.1]"])
def test_widths_that_cannot_be_are_refused_before_training(ddpm_here: Ddpm, tmp_path: Path, widths: str) -> None:
    assert_refused(ddpm_here("train", *TINY, f"--set=ema.widths={widths}", cwd=tmp_path), "ema.widths")
    assert not files_below(tmp_path)


def test_widths_cannot_change_in_the_middle_of_a_run(ddpm_here: Ddpm, folder: Path) -> None:
    assert_refused(ddpm_here("resume", "kept", "--steps=30", "--set=ema.widths=[0.2]", cwd=folder), "ema.widths", "middle of a run")


def test_a_damaged_snapshot_is_named(ddpm_here: Ddpm, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "runs/kept"
    shutil.copytree(folder / "runs/kept", copy)
    snapshot = copy / "averages/step-00000009.safetensors"
    snapshot.write_bytes(snapshot.read_bytes()[:-100])
    assert_refused(ddpm_here("ema", "kept", cwd=tmp_path), "step-00000009.safetensors")
