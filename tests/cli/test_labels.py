"""Class labels and guidance as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import TINY, Ddpm, assert_refused, files_below, run_ddpm
from picture_files import pixels
from PIL import Image

CELL = 30  # 28 pixels and 2 between


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of a model with classes, and its export."""
    folder = tmp_path_factory.mktemp("labels")
    # Groups of one channel would take the vector of the class out again.
    settings = (
        "--set=model.num_classes=auto",
        "--set=model.norm_groups=4",
        "--set=schedule.timesteps=50",
        "--set=optimizer.lr=1e-2",
        "--set=ema.decay=0.5",
    )
    for command in (("train", *TINY, "--steps=6", "--name=classes", *settings), ("export", "--json")):
        done = run_ddpm(*command, cwd=folder)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["largest_difference"] == 0
    return folder


def test_a_class_by_number_and_by_name(ddpm_here: Ddpm, folder: Path) -> None:
    for label, out in (("8", "number.png"), ("bag", "name.png"), ("3", "other.png")):
        done = ddpm_here("sample", "--label", label, "--n", "2", "--steps", "3", "--out", out, "--json", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["labels"] == [3 if label == "3" else 8] * 2
    assert (folder / "number.png").read_bytes() == (folder / "name.png").read_bytes() != (folder / "other.png").read_bytes()
    assert "class: Dress, guidance 1" in done.stderr


def test_all_classes_make_a_row_each_with_its_name(ddpm_here: Ddpm, folder: Path) -> None:
    common = ("sample", "--guidance", "2", "--steps", "3", "--seed", "4", "--n", "3")
    done = ddpm_here(
        *common, "--label", "all", "--out", "all.png", "--each", "each", "--trajectory", "all.gif", "--batch-size", "7", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    grid = pixels(folder / "all.png")
    margin = grid.shape[1] - (3 * CELL + 2)
    assert grid.shape[0] == 10 * CELL + 2
    assert margin > 30
    named = [grid[row * CELL : (row + 1) * CELL, :margin] for row in range(10)]
    assert all(name.max() > 150 for name in named)
    assert len({name.tobytes() for name in named}) == 10

    done = ddpm_here(*common, "--label", "sandal", "--nrow", "3", "--out", "one.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    row = grid[5 * CELL : 6 * CELL, margin:]
    assert abs(row[2:] - pixels(folder / "one.png")[2:CELL]).max() <= 1
    assert abs(row[2:CELL, 2:30] - pixels(folder / "each/Sandal-4.png")).max() == 0
    assert len(list((folder / "each").iterdir())) == 30
    with Image.open(folder / "all.gif") as animation:
        assert animation.size == (grid.shape[1], grid.shape[0])


def test_guidance_changes_images_and_0_ignores_the_class(ddpm_here: Ddpm, folder: Path) -> None:
    pictures = {}
    for label, scale in (("3", "1"), ("3", "4"), ("3", "0"), ("8", "0")):
        done = ddpm_here("sample", "--label", label, "--guidance", scale, "--n", "1", "--steps", "5", "--out", "g.png", cwd=folder)
        assert done.returncode == 0, done.stderr
        pictures[label, scale] = pixels(folder / "g.png").tobytes()
    assert pictures["3", "0"] == pictures["8", "0"]
    assert len(set(pictures.values())) == 3


def test_the_exported_file_knows_its_classes(ddpm_here: Ddpm, folder: Path) -> None:
    for source, out in (("runs/classes", "run.png"), ("model.safetensors", "file.png")):
        done = ddpm_here(
            "sample", source, "--label", "ankle boot", "--guidance", "3", "--n", "2", "--steps", "3", "--out", out, cwd=folder
        )
        assert done.returncode == 0, done.stderr
    assert (folder / "run.png").read_bytes() == (folder / "file.png").read_bytes()
    assert_refused(ddpm_here("sample", "model.safetensors", "--label", "boots", cwd=folder), "boots", "Ankle boot")


def test_the_exported_program_takes_labels(ddpm_here: Ddpm, folder: Path) -> None:
    done = ddpm_here("export", "--format", "torch-export", "--out", "denoiser.pt2", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["largest_difference"] < 1e-4
    program = torch.export.load(folder / "denoiser.pt2").module()
    for batch in (1, 5):
        x, t = torch.randn(batch, 1, 28, 28), torch.full((batch,), 3)
        of_class = [program(x, t, torch.full((batch,), label)) for label in (0, 10)]
        assert of_class[0].shape == x.shape
        assert not torch.equal(*of_class)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--label", "bga"], ['no class "bga"', 'nearest is "Bag"']),
        (["--label", "10"], ['no class "10"', "9 Ankle boot"]),
        (["--label", "all", "--nrow", "3"], ["--nrow", "row"]),
        (["--guidance=-1"], ["sample.guidance.scale", "at least 0"]),
        (["--guidance=nan"], ["sample.guidance.scale"]),
        (["--set", "sample.guidance.interval=[3,1]"], ["sample.guidance", "low < high"]),
        (["--set", "sample.guidance.rescale=2"], ["sample.guidance.rescale", "at most 1"]),
    ],
)
def test_bad_requests_touch_nothing(arguments: list[str], words: list[str], ddpm_here: Ddpm, folder: Path) -> None:
    before = files_below(folder)
    assert_refused(ddpm_here("sample", *arguments, "--out", "never.png", cwd=folder), *words)
    assert files_below(folder) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--guidance", "2"], ["guidance", "model.num_classes=auto"]),
        (["--guidance", "2", "--set", "model.num_classes=10"], ["--set model.num_classes=10", "sample.*"]),
        (["--label", "3"], ["--label 3", "model.num_classes=auto"]),
        (["--label", "all"], ["--label all", "model.num_classes=auto"]),
    ],
)
def test_a_model_without_classes_refuses_labels_and_guidance(
    arguments: list[str], words: list[str], ddpm_here: Ddpm, trained_folder: Path
) -> None:
    before = files_below(trained_folder)
    assert_refused(ddpm_here("sample", *arguments, cwd=trained_folder), *words)
    assert files_below(trained_folder) == before


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model.num_classes=7", ["model.num_classes is 7", "has 10 classes"]),
        ("model.num_classes=0", ["model.num_classes", "from 1 to"]),
        ("sample.guidance.scale=2", ["sample.guidance", "model.num_classes=auto"]),
        ("objective.label_dropout=1.5", ["objective.label_dropout", "at most 1"]),
    ],
)
def test_bad_settings_start_no_run(setting: str, words: list[str], ddpm_here: Ddpm, tmp_path: Path) -> None:
    assert_refused(ddpm_here("train", *TINY, "--steps=1", "--set", setting), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def editing_folder(folder: Path) -> Path:
    """The folder with a picture and a mask that fills half of it."""
    Image.fromarray(np.arange(28 * 28, dtype=np.uint16).reshape(28, 28).astype(np.uint8)).save(folder / "a.png")
    Image.fromarray(np.pad(np.full((14, 28), 255, np.uint8), ((14, 0), (0, 0)))).save(folder / "mask.png")
    return folder


EDITS = (
    ("img2img", "a.png", "--strength", "0.9", "--steps", "5", "--sampler", "ddim"),
    ("inpaint", "a.png", "mask.png", "--steps", "5", "--resample", "1"),
    ("interpolate", "3", "a.png", "--steps", "5"),
)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit[0])
def test_edits_follow_the_class_or_none(edit: tuple[str, ...], ddpm_here: Ddpm, editing_folder: Path) -> None:
    pictures = {}
    for name, options in {
        "any": (),
        "ignored": ("--label", "3", "--guidance", "0"),
        "bag": ("--label", "bag"),
        "number": ("--label", "8", "--guidance", "1"),
        "guided": ("--label", "bag", "--guidance", "3"),
    }.items():
        done = ddpm_here(*edit, *options, "--out", f"{name}.png", "--json", cwd=editing_folder)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["label"] == (None if name in ("any", "ignored") else 8)
        assert told["guidance"]["scale"] == {"any": 0, "ignored": 0, "guided": 3}.get(name, 1)
        pictures[name] = pixels(editing_folder / f"{name}.png").tobytes()
    assert pictures["any"] == pictures["ignored"]
    assert pictures["bag"] == pictures["number"]
    assert len(set(pictures.values())) == 3


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit[0])
def test_guided_edits_need_a_class_that_exists(edit: tuple[str, ...], ddpm_here: Ddpm, editing_folder: Path) -> None:
    before = files_below(editing_folder)
    for options, words in ((("--label", "bga"), 'no class "bga"'), (("--guidance", "2"), "--guidance 2 follows a class")):
        assert_refused(ddpm_here(*edit, *options, "--out", "never.png", cwd=editing_folder), words)
    assert files_below(editing_folder) == before
