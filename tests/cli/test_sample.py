"""`ddpm sample` and `ddpm export` as a person meets them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command import Ddpm, assert_refused, environment, files_below
from picture_files import pixels
from PIL import Image

RUN = "runs/tiny"


def cell(grid: np.ndarray, number: int, columns: int) -> np.ndarray:
    top, left = 2 + number // columns * 30, 2 + number % columns * 30
    return grid[top : top + 28, left : left + 28]


@pytest.fixture(scope="module")
def folder(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that tests may write outputs to."""
    copy = tmp_path_factory.mktemp("sampling") / "work"
    shutil.copytree(trained_folder, copy)
    return copy


def test_the_newest_run_is_taken_and_named(ddpm: Ddpm, folder: Path) -> None:
    done = ddpm("sample", "--n", "36", "--out", "grid.png", "--steps", "3", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "runs/tiny/checkpoints/step-00000006 (step 6, EMA weights)" in done.stderr
    assert pixels(folder / "grid.png").shape == (6 * 30 + 2, 6 * 30 + 2)


def test_an_image_depends_on_its_seed_alone(ddpm: Ddpm, folder: Path) -> None:
    """Not on the batch size, the number of images, or their order."""
    common = ("sample", "--sampler", "ddpm", "--steps", "10")
    done = ddpm(*common, "--n", "7", "--batch-size", "3", "--out", "a.png", "--each", "each", cwd=folder)
    assert done.returncode == 0, done.stderr
    done = ddpm(*common, "--seeds", "5,2-3", "--batch-size", "1", "--out", "b.png", "--nrow", "3", cwd=folder)
    assert done.returncode == 0, done.stderr
    first, second = pixels(folder / "a.png"), pixels(folder / "b.png")
    assert second.shape == (32, 3 * 30 + 2)
    for place, seed in enumerate((5, 2, 3)):
        # One grey level for float sums that another batch size orders differently.
        assert abs(cell(first, seed, 3) - cell(second, place, 3)).max() <= 1
        assert abs(cell(first, seed, 3) - pixels(folder / f"each/{seed}.png")).max() == 0
    assert abs(cell(first, 0, 3) - cell(first, 1, 3)).max() > 50


def test_ema_and_last_weights_differ(ddpm: Ddpm, folder: Path) -> None:
    for flag in ("--ema", "--no-ema"):
        done = ddpm("sample", flag, "--n", "1", "--steps", "2", "--out", f"x{flag}.png", cwd=folder)
        assert done.returncode == 0, done.stderr
    assert not np.array_equal(pixels(folder / "x--ema.png"), pixels(folder / "x--no-ema.png"))


def test_trajectory_is_an_animation_from_noise_to_image(ddpm: Ddpm, folder: Path) -> None:
    done = ddpm(
        "sample", "--n", "3", "--batch-size", "2", "--steps", "8", "--trajectory", "t.gif", "--out", "t.png", "--json", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["files"] == ["t.png", "t.gif"]
    with Image.open(folder / "t.gif") as animation:
        assert animation.n_frames == 8
        animation.seek(7)
        last = np.asarray(animation.convert("L")).astype(int)
    assert np.array_equal(last, pixels(folder / "t.png"))


def test_a_filmstrip_goes_from_noise_to_image_row_by_row(ddpm: Ddpm, folder: Path) -> None:
    done = ddpm("sample", "--n", "3", "--steps", "12", "--trajectory", "strip.png", "--out", "end.png", "--nrow", "1", cwd=folder)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    strip, end = pixels(folder / "strip.png"), pixels(folder / "end.png")
    assert strip.shape == (3 * 30 + 2, 10 * 30 + 2)
    assert np.array_equal(strip[:, -32:], end)
    assert not np.array_equal(strip[:, :32], end)


def test_samplers_by_name(ddpm: Ddpm, folder: Path) -> None:
    pictures = {}
    for name in ("ddpm", "heun", "dpm-solver++"):
        done = ddpm("sample", RUN, "--sampler", name, "--steps", "5", "--n", "1", "--out", "s.png", "--json", cwd=folder)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)["sampler"]
        assert (told["kind"], told["steps"], told["evaluations"]) == (name, 5, 9 if name == "heun" else 5)
        pictures[name] = pixels(folder / "s.png").tobytes()
    assert len(set(pictures.values())) == 3


def test_exported_file_gives_the_same_images(ddpm: Ddpm, folder: Path) -> None:
    done = ddpm("export", RUN, "--format", "safetensors", "--out", "model.safetensors", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["largest_difference"] == 0
    for source, out in (
        (RUN, "run.png"),
        ("model.safetensors", "file.png"),
        (f"{RUN}/checkpoints/step-00000006", "checkpoint.png"),
    ):
        done = ddpm("sample", source, "--n", "2", "--steps", "4", "--out", out, cwd=folder)
        assert done.returncode == 0, done.stderr
    assert (folder / "run.png").read_bytes() == (folder / "file.png").read_bytes() == (folder / "checkpoint.png").read_bytes()
    assert_refused(ddpm("sample", "model.safetensors", "--no-ema", cwd=folder), "EMA weights alone")


def test_exported_program_runs_at_any_batch_size(ddpm: Ddpm, folder: Path) -> None:
    done = ddpm("export", RUN, "--format", "torch-export", "--out", "denoiser.pt2", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["largest_difference"] < 1e-4
    program = torch.export.load(folder / "denoiser.pt2").module()
    for batch in (1, 5):
        assert program(torch.randn(batch, 1, 28, 28), torch.full((batch,), 3)).shape == (batch, 1, 28, 28)


def test_an_altered_export_is_refused(ddpm: Ddpm, folder: Path) -> None:
    done = ddpm("export", RUN, "--out", "whole.safetensors", cwd=folder)
    assert done.returncode == 0, done.stderr
    data = bytearray((folder / "whole.safetensors").read_bytes())
    for name, changed in (
        ("altered", data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]),
        ("truncated", data[:-100]),
        ("foreign", b"hello"),
    ):
        (folder / f"{name}.safetensors").write_bytes(changed)
        assert_refused(ddpm("sample", f"{name}.safetensors", "--out", "never.png", cwd=folder), f"{name}.safetensors")
    assert not (folder / "never.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--n", "0"], ["--n must be at least 1"]),
        (["--steps", "51"], ["51", "50"]),
        (["--steps", "0"], ["steps"]),
        (["--batch-size", "0"], ["batch"]),
        (["--sampler", "dddim"], ["dddim", "ddim"]),
        (["--seeds", "3-x"], ["3-x"]),
        (["--seeds", "9-3"], ["9-3"]),
        (["--out", "absent/grid.png"], ["absent"]),
        (["--each", "absent/images"], ["absent"]),
        (["--device", "tpu"], ["tpu", "cpu"]),
        (["runs/tyni"], ["tyni", "tiny"]),
        (["--out", "grid.psd"], [".psd", ".png"]),
        (["--out", "grid.xyz"], [".xyz", ".png"]),
        (["--trajectory", "t.mp4"], ["t.mp4", ".gif", ".apng", ".png"]),
        (["--trajectory", "t"], ["a denoising is"]),
        (["--out", "t.gif", "--trajectory", "t.gif"], ["both name t.gif"]),
        (["--seed=-1"], ["--seed"]),
        (["--seed", "99999999999999999999999"], ["--seed"]),
        (["--n", "4", "--seeds", "1,2"], ["--seeds", "--n"]),
        (["--set", "schedule.kind=cosine"], ["schedule.kind=cosine", "sample.*"]),
        (["runs/tiny/config.toml"], ["config.toml", "a checkpoint"]),
        (["--set", "sample.sampler.eta=1"], ["eta"]),
        (["--sampler", "unipc", "--set", "sample.sampler.order=4"], ["order", "1, 2 or 3"]),
        (["--set", "sample.sampler.spacing=karas"], ["karas", "karras"]),
    ],
)
def test_bad_requests_touch_nothing(arguments: list[str], words: list[str], ddpm: Ddpm, trained_folder: Path) -> None:
    before = files_below(trained_folder)
    assert_refused(ddpm("sample", *arguments, cwd=trained_folder), *words)
    assert files_below(trained_folder) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "g.webp", "--n", "600", "--nrow", "600"], ["18,002x32", "WEBP cannot hold", "16383"]),
        (["--out", "g.jpg", "--n", "2200", "--nrow", "2200"], ["66,002x32", "JPEG cannot hold"]),
        (["--n", "2200", "--nrow", "2200", "--trajectory", "t.gif"], ["t.gif", "GIF cannot hold"]),
        (["--n", "300000"], ["16,442x16,442 pixels", "--seeds"]),
        (["--n", "2000000"], ["--n 2,000,000", "1,000,000", "--seeds"]),
        (["--out", "-"], ['"-" names no file', "stdout"]),
        (["--each", "-"], ['"-" names no file']),
        (["--out", "g.hdf"], [".hdf", ".png"]),
        (["--out", "g.ico"], ["ICO cannot hold", "another size"]),
    ],
)
def test_what_could_not_be_written_is_refused_before_weights_are_read(
    arguments: list[str], words: list[str], ddpm_here: Ddpm, trained_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddpm_cli.sampling.generate.load_model", None)
    before = files_below(trained_folder)
    assert_refused(ddpm_here("sample", *arguments, cwd=trained_folder), *words)
    assert files_below(trained_folder) == before


def test_an_edit_that_could_not_be_written_is_refused_before_weights_are_read(
    ddpm_here: Ddpm, trained_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddpm_cli.sampling.generate.load_model", None)
    done = ddpm_here("interpolate", "1", "2", "--n", "10000", "--out", "x.webp", cwd=trained_folder)
    assert_refused(done, "Cannot write x.webp", "WEBP cannot hold")


def test_without_a_run_the_remedy_is_named(ddpm: Ddpm, tmp_path: Path) -> None:
    for command in ("sample", "export"):
        assert_refused(ddpm(command), "No run", "ddpm train")
    assert_refused(ddpm("export", "--format", "onnxx"), "onnxx", "safetensors, torch-export")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_passed_over_or_refused(ddpm: Ddpm, trained_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_folder / "runs", tmp_path / "runs")
    checkpoint = tmp_path / RUN / "checkpoints/step-00000006"
    data = (checkpoint / "ema.safetensors").read_bytes()
    (checkpoint / "ema.safetensors").write_bytes(data[:-1])
    assert_refused(ddpm("sample", str(checkpoint)), "ema.safetensors", "truncated")
    assert_refused(ddpm("sample", RUN), "truncated")


def test_a_damaged_newer_checkpoint_is_passed_over_and_named(ddpm: Ddpm, trained_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_folder / "runs", tmp_path / "runs")
    checkpoints = tmp_path / RUN / "checkpoints"
    shutil.copytree(checkpoints / "step-00000006", checkpoints / "step-00000007")
    (checkpoints / "step-00000007/ema.safetensors").write_bytes(b"torn")
    for command in (("sample", "--n", "1", "--steps", "1"), ("export",)):
        done = ddpm(*command)
        assert done.returncode == 0, done.stderr
        assert "step-00000007/ema.safetensors is truncated" in done.stderr
        assert "model: runs/tiny/checkpoints/step-00000006" in done.stderr


def test_weights_of_another_architecture_are_refused(ddpm: Ddpm, trained_folder: Path, tmp_path: Path) -> None:
    import hashlib

    shutil.copytree(trained_folder / "runs", tmp_path / "runs")
    checkpoint = tmp_path / RUN / "checkpoints/step-00000006"
    config = (checkpoint / "config.toml").read_text().replace("base_channels = 8", "base_channels = 16")
    (checkpoint / "config.toml").write_text(config)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["files"]["config.toml"] = {"size": len(config), "sha256": hashlib.sha256(config.encode()).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    assert_refused(ddpm("sample", str(checkpoint)), "another architecture", "step-00000006")


def test_an_existing_output_is_replaced_only_as_a_whole(ddpm: Ddpm, folder: Path) -> None:
    (folder / "old.png").write_text("precious")
    assert_refused(ddpm("sample", "--steps", "51", "--out", "old.png", cwd=folder), "51")
    assert (folder / "old.png").read_text() == "precious"
    assert ddpm("sample", "--steps", "1", "--n", "1", "--out", "old.png", cwd=folder).returncode == 0
    assert pixels(folder / "old.png").shape == (32, 32)


def test_what_takes_long_to_import_is_left_to_training(trained_folder: Path, tmp_path: Path) -> None:
    code = "import sys; from ddpm_cli.cli.app import run; status = run(sys.argv[1:], True); print(*sys.modules); sys.exit(status)"
    run = str(trained_folder / "runs/tiny")
    command = [sys.executable, "-c", code, "sample", run, "-n", "1", "--sampler=ddim", "--steps=1", "--device=cpu"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=True)
    assert {name.partition(".")[0] for name in done.stdout.split()} & {
        "accelerate",
        "torchvision",
        "matplotlib",
        "textual_image",
    } == set()
