"""`ddpm interpolate`, `inpaint` and `img2img` as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import Ddpm, assert_refused, files_below
from editing_folder import editing_folder
from picture_files import pixels
from PIL import Image

CELL = 30  # 28 pixels and 2 between
COMMANDS = (["interpolate", "a.png", "b.png"], ["inpaint", "a.png", "mask.png"], ["img2img", "a.png"])


def cells(path: Path, count: int) -> list[np.ndarray]:
    grid = pixels(path)
    assert grid.shape == (CELL + 2, count * CELL + 2)
    return [grid[2:30, 2 + number * CELL : 30 + number * CELL] for number in range(count)]


@pytest.fixture(scope="module")
def folder(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run beside pictures of its data, a mask of their lower half, and pictures that do not fit."""
    folder = editing_folder(trained_folder, tmp_path_factory.mktemp("editing") / "work")
    mask = pixels(folder / "mask.png").astype(np.uint8)
    Image.fromarray(mask.T[:, :20]).save(folder / "narrow.png")
    Image.new("L", (28, 28)).save(folder / "black.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 40, 3), np.uint8)).save(folder / "photo.jpg")
    return folder


def test_inpaint_keeps_what_is_known_and_fills_the_rest_by_seed(ddpm_here: Ddpm, folder: Path) -> None:
    common = ("inpaint", "a.png", "mask.png", "--steps", "6", "--jump", "2", "--resample", "2")
    done = ddpm_here(*common, "--n", "3", "--side-by-side", "--out", "fills.png", "--each", "fills", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["seeds"], told["filled_pixels"], told["steps_taken"]) == ([0, 1, 2], 14 * 28, 10)
    assert told["files"] == ["fills.png", "fills/0.png", "fills/1.png", "fills/2.png"]
    given, hidden, *fills = cells(folder / "fills.png", 5)
    assert np.array_equal(given, pixels(folder / "a.png"))
    assert (hidden[14:] == 128).all()
    for fill in (hidden, *fills):
        assert np.array_equal(fill[:14], given[:14])
    for fill in fills:
        assert abs(fill[14:] - given[14:]).mean() > 5
    assert abs(fills[0] - fills[1]).max() > 50
    done = ddpm_here(*common, "--seeds", "2", "--out", "alone.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    # One grey level for float sums that another batch size orders differently.
    assert abs(pixels(folder / "alone.png") - fills[2]).max() <= 1
    assert np.array_equal(pixels(folder / "fills/2.png"), fills[2])


def test_img2img_keeps_at_0_and_forgets_at_1(ddpm_here: Ddpm, folder: Path) -> None:
    common = ("--sampler", "ddim", "--steps", "10", "--seed", "7")
    for strength in ("0", "0.04", "0.05", "0.06", "0.3", "1"):
        done = ddpm_here("img2img", "a.png", "--strength", strength, *common, "--out", f"s{strength}.png", "--json", cwd=folder)
        assert done.returncode == 0, done.stderr
        taken = round(10 * float(strength))
        assert json.loads(done.stdout)["steps_taken"] == taken
        assert f"sampler: ddim, {taken} of 10 steps" in done.stderr
        assert ("is none: the image stays as it is" in done.stderr) == (strength in ("0.04", "0.05"))
    assert np.array_equal(pixels(folder / "s0.04.png"), pixels(folder / "a.png"))
    assert np.array_equal(pixels(folder / "s0.png"), pixels(folder / "a.png"))
    assert not np.array_equal(pixels(folder / "s0.3.png"), pixels(folder / "a.png"))
    assert ddpm_here("sample", "--n", "1", *common, "--out", "sampled.png", cwd=folder).returncode == 0
    assert np.array_equal(pixels(folder / "s1.png"), cells(folder / "sampled.png", 1)[0])


def test_variants_of_img2img_depend_on_their_seeds_alone(ddpm_here: Ddpm, folder: Path) -> None:
    common = ("img2img", "a.png", "--sampler", "ddpm", "--steps", "10", "--strength", "0.5")
    done = ddpm_here(*common, "--n", "3", "--batch-size", "2", "--side-by-side", "--out", "v.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    given, *variants = cells(folder / "v.png", 4)
    assert np.array_equal(given, pixels(folder / "a.png"))
    assert ddpm_here(*common, "--seeds", "2,0", "--out", "w.png", cwd=folder).returncode == 0
    for found, expected in zip(cells(folder / "w.png", 2), (variants[2], variants[0]), strict=True):
        assert abs(found - expected).max() <= 1
    assert abs(variants[0] - variants[1]).max() > 20


def test_interpolation_begins_and_ends_with_its_pictures(ddpm_here: Ddpm, folder: Path) -> None:
    done = ddpm_here("interpolate", "a.png", "b.png", "--n", "5", "--side-by-side", "--each", "way", "--out", "w.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    first, *way, last = cells(folder / "w.png", 7)
    assert np.array_equal(first, pixels(folder / "a.png"))
    assert np.array_equal(last, pixels(folder / "b.png"))
    assert abs(way[0] - first).mean() < 1
    assert abs(way[-1] - last).mean() < 1
    moved = [abs(image - way[0]).mean() for image in way]
    assert moved == sorted(moved)
    assert sorted(path.name for path in (folder / "way").iterdir()) == [f"{number}.png" for number in range(5)]


def test_interpolation_of_seeds_has_their_images_at_its_ends(ddpm_here: Ddpm, folder: Path) -> None:
    done = ddpm_here("interpolate", "3", "8", "--n", "4", "--steps", "10", "--out", "seeds.png", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ends"] == [3, 8]
    assert "grey_levels_off" not in told
    assert told["sampler"] == {"kind": "ddim", "steps": 10, "eta": 0, "spacing": {"kind": "logsnr", "max_sigma": 164.0}}
    way = cells(folder / "seeds.png", 4)
    sampled = ("sample", "--seeds", "3,8", "--sampler", "ddim", "--steps", "10", "--set", "sample.sampler.spacing=logsnr")
    assert ddpm_here(*sampled, "--nrow", "2", "--out", "ends.png", cwd=folder).returncode == 0
    for found, expected in zip((way[0], way[-1]), cells(folder / "ends.png", 2), strict=True):
        assert abs(found - expected).max() <= 1


def test_set_goes_before_the_usual_steps(ddpm_here: Ddpm, folder: Path) -> None:
    done = ddpm_here("inpaint", "a.png", "mask.png", "--set", "sample.sampler.steps=3", "--out", "set.png", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["sampler"]["kind"], told["sampler"]["steps"], told["jump"], told["steps_taken"]) == ("ddpm", 3, 2, 2 * 10 + 1)


def test_a_picture_and_a_seed(ddpm_here: Ddpm, folder: Path) -> None:
    done = ddpm_here("interpolate", "3", "a.png", "--n", "2", "--side-by-side", "--out", "mixed.png", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    *_, made, given = cells(folder / "mixed.png", 3)
    assert np.array_equal(given, pixels(folder / "a.png"))
    assert abs(made - given).mean() < 1
    assert json.loads(done.stdout)["grey_levels_off"] == [pytest.approx(abs(made - given).mean())]
    assert "of 255 grey levels off" in done.stderr


def test_resize_brings_any_picture_to_the_model(ddpm_here: Ddpm, folder: Path) -> None:
    done = ddpm_here(
        "inpaint", "photo.jpg", "narrow.png", "--resize", "--steps", "1", "--side-by-side", "--out", "r.png", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    cells(folder / "r.png", 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["img2img", "photo.jpg"], ["photo.jpg is 60x40", "28x28", "--resize"]),
        (["img2img", "absent.png"], ["absent.png cannot be read"]),
        (["img2img", "runs/tiny/config.toml"], ["config.toml is no picture"]),
        (["img2img", "a.png", "--strength", "1.5"], ["--strength"]),
        (["img2img", "a.png", "--strength", "nan"], ["--strength"]),
        (["img2img", "a.png", "--run", "runs/tyni"], ["tyni", "tiny"]),
        (["img2img", "a.png", "--sampler", "dddim"], ["dddim", "ddim"]),
        (["inpaint", "a.png", "narrow.png"], ["narrow.png is 28x20", "28x28"]),
        (["inpaint", "a.png", "black.png"], ["black.png is white nowhere"]),
        (["inpaint", "a.png", "mask.png", "--jump", "50"], ["jump of 50", "50"]),
        (["inpaint", "a.png", "mask.png", "--resample", "0"], ["--resample must be at least 1"]),
        (["inpaint", "a.png", "mask.png", "--set", "sample.sampler.kind=ddim"], ["sampler.kind", "inpaint", "ddim"]),
        (["interpolate", "a.png", "b.png", "--n", "1"], ["--n"]),
        (["interpolate", "3", "8", "--side-by-side"], ["both ends are seeds"]),
        (["interpolate", "3", "photo.jpg"], ["photo.jpg is 60x40"]),
        (["interpolate", "3", "99999999999999999999"], ["99999999999999999999 cannot be read"]),
        *[([*command, "--n", "10000", "--out", "x.ico"], ["ICO cannot hold"]) for command in COMMANDS],
        *[([*command, "--label", "bag"], ["without class labels"]) for command in COMMANDS],
        *[([*command, "--guidance", "2"], ["trained with classes"]) for command in COMMANDS],
        *[([*command, "--steps", "51"], ["51", "50"]) for command in COMMANDS],
        *[([*command, "--out", "absent/x.png"], ["absent"]) for command in COMMANDS],
        *[([*command, "--out", "x.xyz"], [".xyz"]) for command in COMMANDS],
        *[([*command, "--set", "train.seed=1"], ["train.seed=1", "sample.*"]) for command in COMMANDS],
    ],
)
def test_bad_requests_touch_nothing(arguments: list[str], words: list[str], ddpm_here: Ddpm, folder: Path) -> None:
    before = files_below(folder)
    assert_refused(ddpm_here(*arguments, cwd=folder), *words)
    assert files_below(folder) == before
