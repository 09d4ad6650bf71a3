"""`ddpm compare` as a person meets it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from command import Ddpm, assert_refused, files_below
from fake_runs import add_figure, fake_run
from PIL import Image


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A sweep's folder `runs/rates` of two arms with two seeds each, measured with two numbers of steps."""
    root = tmp_path / "runs" / "rates"
    root.mkdir(parents=True)
    for seed in (0, 1):
        for name, lr, loss in (("low", 0.001, 0.05), ("high", 0.003, 0.06)):
            run = fake_run(root, f"{name}-s{seed}", f"optimizer.lr={lr}", f"train.seed={seed}", held_out=loss + seed / 1e5)
            for steps in (5, 10):
                add_figure(run, 1000 * loss - steps + seed / 100, steps=steps, evaluations=steps)
    return root


def test_tables_files_and_pictures(ddpm: Ddpm, runs: Path) -> None:
    done = ddpm("compare", "runs/rates", "--no-grids")
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    for words in (
        "4 runs in 2 arms.",
        "Welch's t-test over the seeds against low, corrected for 1 arm (Holm)",
        "optimizer.lr",
        "losses of the runs",
        "higher by 20 % (worse), p < 0.001",
        "floor 0.5: the same of real images",
        "abacus",
    ):
        assert words in shown, done.stdout
    written = ["comparison.json", "comparison.md", "curves.png", "metrics.png"]
    assert sorted(path.name for path in runs.iterdir() if path.is_file()) == written
    text = (runs / "comparison.md").read_text()
    assert "![curves](curves.png)" in text
    assert "![metrics](metrics.png)" in text
    assert "| ddim |" not in text  # the same for all, so below the table
    assert "| 5 | high | 55.005 +- 0.0071 | 2 | higher by 22 % (worse), p \\< 0.001 |" in text
    with Image.open(runs / "curves.png") as picture:
        assert picture.size[0] == 1440
    for name in written:
        assert f"wrote: runs/rates/{name}" in done.stderr


@pytest.mark.parametrize("out", ["runs/rates", "new"])
def test_a_full_disk_leaves_nothing_half_filled(
    ddpm_here: Ddpm, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = files_below(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)  # comparison.json is written by it, after the pictures
        done = ddpm_here("compare", "runs/rates", "--no-grids", f"--out={out}")
    assert done.returncode == 1, done.stderr
    assert f"error: Cannot write {out}: the disk is full." in done.stderr
    assert files_below(tmp_path).keys() == before.keys()


def test_json_is_pinned(ddpm: Ddpm, runs: Path) -> None:
    done = ddpm("compare", "runs/rates", "--no-grids", "--json", "--baseline=high-s1", "--out=here")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result == json.loads((runs.parents[1] / "here" / "comparison.json").read_text())
    assert list(result) == [
        "baseline", "only_seed", "lead", "arms", "differences", "runs", "measures", "apart", "pictures",
    ]  # fmt: skip
    assert (result["baseline"], result["only_seed"], result["apart"]) == ("high", False, [])
    assert result["arms"][1] == {"name": "high", "runs": ["high-s0", "high-s1"]}
    assert result["differences"] == {"optimizer.lr": {"low": 0.001, "high": 0.003}}
    assert result["runs"][0] == {
        "name": "low-s0",
        "path": "runs/rates/low-s0",
        "seed": 0,
        "finished": True,
        "failure": None,
        "step": 100,
        "images": 1000,
        "seconds": 10.0,
        "images_per_second": 100.0,
        "parameters": result["runs"][0]["parameters"],
        "device": "abacus",
        "loss": pytest.approx(0.06),
        "best_loss": pytest.approx(0.06),
        "held_out_loss": pytest.approx(0.05),
        "best_held_out_loss": pytest.approx(0.05),
    }
    assert result["runs"][0]["parameters"] == 1  # those in the file
    measures = [(measure["metric"], measure["conditions"].get("steps")) for measure in result["measures"]]
    assert measures == [("training loss", None), ("held-out loss", None), ("best held-out loss", None), ("fcd", 5), ("fcd", 10)]
    low, high = result["measures"][3]["arms"]
    assert low["values"] == {"low-s0": 45.0, "low-s1": 45.01}
    assert (low["mean"], low["spread"]) == (pytest.approx(45.005), pytest.approx(0.0070711, abs=1e-6))
    assert high["verdict"] == {"kind": "baseline", "text": "the baseline", "change": None, "p": None}
    assert low["verdict"]["kind"] == "different"
    assert low["verdict"]["change"] == pytest.approx(-10 / 55.005)
    assert result["measures"][3]["floor"] == 0.5
    assert result["pictures"] == {"curves": "curves.png", "metrics": "metrics.png"}


def test_grids_are_drawn_from_the_same_seeds_and_runs_without_checkpoint_are_named(
    ddpm: Ddpm, trained_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    for name in ("tiny", "copy"):
        shutil.copytree(trained_folder / "runs" / "tiny", tmp_path / "runs" / name)
    fake_run(tmp_path / "runs", "bare", "train.seed=7", checkpoint=False, step=10)
    done = ddpm("compare", "tiny", "copy", "bare", "--n=3", "--out=out")
    assert done.returncode == 0, done.stderr
    assert "bare has no checkpoint, so that it has no row in the grids." in done.stderr
    assert "copy repeats seed 0 of tiny" in " ".join(done.stdout.split())
    with Image.open(tmp_path / "out" / "grids.png") as picture:
        scale, row = 2, 2 * (28 + 2) + 2 * 2
        assert picture.height == 2 * (28 + 4) * scale
        upper, lower = (picture.crop((80, top, picture.width, top + row)) for top in (0, 64))
        assert upper.tobytes() == lower.tobytes()  # the same model, the same seeds
    assert "![grids](grids.png)" in (tmp_path / "out" / "comparison.md").read_text()


def test_a_device_that_is_not_there_leaves_nothing_behind(ddpm: Ddpm, runs: Path) -> None:
    before = files_below(runs)
    assert_refused(ddpm("compare", "runs/rates", "--device=abacus"), "abacus")
    assert files_below(runs) == before
