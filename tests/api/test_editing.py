"""Editing, exporting, comparing and sweeping from Python: the same as by command, to the byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import run_ddpm
from editing_folder import editing_folder
from PIL import Image
from safetensors import safe_open
from tiny_configs import tiny_base

import ddpm_cli


@pytest.fixture(scope="module")
def folder(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run beside two pictures of its data, a mask of their lower half, and a picture that does not fit."""
    folder = editing_folder(trained_folder, tmp_path_factory.mktemp("api-editing") / "work")
    Image.new("L", (30, 40)).save(folder / "large.png")
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> ddpm_cli.Model:
    return ddpm_cli.load("tiny", runs=folder / "runs", device="cpu")


def by_command(folder: Path, out: Path, *line: str) -> np.ndarray:
    """The images that a command writes one by one, [N, H, W, 1]."""
    done = run_ddpm(*line, "--device=cpu", f"--each={out}", f"--out={out}.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    return np.stack([np.asarray(Image.open(path))[..., None] for path in sorted(out.iterdir(), key=lambda path: int(path.stem))])


CASES: dict[str, tuple[tuple[str, ...], Callable[[ddpm_cli.Model, Path], np.ndarray]]] = {
    "interpolate pictures": (
        ("interpolate", "a.png", "b.png", "--n=3", "--steps=4"),
        lambda model, here: model.interpolate(here / "a.png", here / "b.png", 3, steps=4),
    ),
    "interpolate seeds": (
        ("interpolate", "3", "8", "--n=4", "--steps=4"),
        lambda model, here: model.interpolate(3, 8, 4, steps=4, batch_size=1),
    ),
    "inpaint": (
        ("inpaint", "a.png", "mask.png", "--steps=6", "--jump=2", "--resample=2", "--seeds=1,4"),
        lambda model, here: model.inpaint(here / "a.png", here / "mask.png", steps=6, jump=2, resample=2, seeds=[1, 4]),
    ),
    "inpaint by its usual jump": (
        ("inpaint", "a.png", "mask.png", "--steps=4", "--resample=2"),
        lambda model, here: model.inpaint(str(here / "a.png"), str(here / "mask.png"), steps=4, resample=2),
    ),
    "img2img": (
        ("img2img", "a.png", "--strength=0.6", "--n=2", "--sampler=ddim", "--steps=5"),
        lambda model, here: model.img2img(here / "a.png", 0.6, 2, sampler="ddim", steps=5),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_edited_images_are_those_of_the_command(name: str, model: ddpm_cli.Model, folder: Path, tmp_path: Path) -> None:
    line, edit = CASES[name]
    images = edit(model, folder)
    assert images.flags.c_contiguous
    assert np.array_equal(images, by_command(folder, tmp_path / "each", *line))


def test_pictures_and_masks_may_be_arrays(model: ddpm_cli.Model, folder: Path) -> None:
    picture = np.asarray(Image.open(folder / "a.png"))[..., None]
    lower = np.zeros((28, 28), np.bool_)
    lower[14:] = True
    filled = model.inpaint(picture, lower, steps=4, resample=2)
    assert np.array_equal(filled, model.inpaint(folder / "a.png", folder / "mask.png", steps=4, resample=2))
    assert np.array_equal(filled[0, :14], picture[:14])


def test_numbers_may_be_those_of_numpy(model: ddpm_cli.Model, folder: Path) -> None:
    two = np.int64(2)
    assert np.array_equal(model.interpolate(two, np.uint8(8), two, steps=two), model.interpolate(2, 8, 2, steps=2))
    assert np.array_equal(model.sample(two, steps=two, batch_size=two), model.sample(2, steps=2))
    assert np.array_equal(model.sample(seeds=np.arange(2), steps=2), model.sample(2, steps=2))
    filled = model.inpaint(folder / "a.png", folder / "mask.png", two, resample=two, jump=np.int32(1), steps=two)
    assert np.array_equal(filled, model.inpaint(folder / "a.png", folder / "mask.png", 2, resample=2, jump=1, steps=2))
    half = model.img2img(folder / "a.png", np.float32(0.5), two, sampler="ddim", steps=4)
    assert np.array_equal(half, model.img2img(folder / "a.png", 0.5, 2, sampler="ddim", steps=4))


REFUSED: dict[str, tuple[Callable[[ddpm_cli.Model, Path], object], str]] = {
    "n": (lambda model, here: model.interpolate(0, 1, 1), "n must be at least 2, not 1"),
    "seed": (lambda model, here: model.interpolate(-1, 3), "first must be at least 0, not -1"),
    "large seed": (lambda model, here: model.interpolate(3, 10**20), "last must be at most 999,"),
    "truth as a seed": (lambda model, here: model.interpolate(True, 3), "first must be a whole number, not True"),
    "half a seed": (lambda model, here: model.interpolate(3, 0.5), "last must be a whole number, not 0.5"),  # type: ignore[arg-type]
    "half an image": (lambda model, here: model.interpolate(3, 8, 2.5), "n must be a whole number, not 2.5"),  # type: ignore[arg-type]
    "no picture": (lambda model, here: model.img2img(None), "image must be a path, not None"),  # type: ignore[arg-type]
    "no mask": (lambda model, here: model.inpaint(here / "a.png", 3), "mask must be a path, not 3"),  # type: ignore[arg-type]
    "no number": (lambda model, here: model.img2img(here / "a.png", "x"), "strength must be a number, not 'x'"),  # type: ignore[arg-type]
    "guidance": (lambda model, here: model.img2img(here / "a.png", guidance="x"), "guidance must be a number"),  # type: ignore[arg-type]
    "strength": (lambda model, here: model.img2img(here / "a.png", 1.5), r"strength must be in \[0, 1\], not 1.5"),
    "resample": (lambda model, here: model.inpaint(here / "a.png", here / "mask.png", resample=0), "resample must be at least 1"),
    "label": (
        lambda model, here: model.img2img(here / "a.png", label="bag"),
        "so that label bag means nothing",
    ),
    "picture": (lambda model, here: model.img2img(np.zeros((28, 28), np.uint8)), r"uint8 \[28, 28, 1\], not uint8 \[28, 28\]"),
    "mask": (
        lambda model, here: model.inpaint(here / "a.png", np.zeros((28, 28), np.bool_)),
        r"A mask is bool \[28, 28\] and true somewhere",
    ),
    "sampler of its own": (
        lambda model, here: model.interpolate(0, 1, sampler="heun"),
        "sampler has no place here: interpolate takes ddim",
    ),
    "unknown argument": (
        lambda model, here: model.sample(1, stepps=3),  # type: ignore[call-arg]
        'There is no argument stepps; .*nearest.* is "steps"',
    ),
    "resize": (
        lambda model, here: model.img2img(here / "large.png"),
        "large.png is 40x30, .* or let resize bring it to that",
    ),
    "limits": (
        lambda model, here: model.sample(set={"sample.n": 20_000}),
        r"Ask for fewer images or steps \(n, steps\), or lift the limit with no_limits",
    ),
    "steps of an export": (
        lambda model, here: ddpm_cli.export(here / "runs" / "tiny", "onnx", steps=3),
        "steps is for with_sampler. Add format onnx and with_sampler",
    ),
    "format of an export": (
        lambda model, here: ddpm_cli.export(here / "runs" / "tiny", license="mit"),
        "license is for the model card of the format diffusers, not safetensors. Add format diffusers",
    ),
    "half a step of an export": (
        lambda model, here: ddpm_cli.export(here / "runs" / "tiny", "onnx", with_sampler=True, steps=2.5),  # type: ignore[arg-type]
        "steps must be a whole number, not 2.5",
    ),
    "weights of a file": (
        lambda model, here: ddpm_cli.load(ddpm_cli.export(model.origin, out=here / "m.safetensors").path, ema=False),
        "holds the EMA weights alone",
    ),
    "resumed": (
        lambda model, here: ddpm_cli.resume("tiny", runs=here / "runs", steps=0, progress=False),
        r"train.steps: must be at least 1, not 0 \(steps\)",
    ),
    "spelt as in Python": (lambda model, here: model.sample(1, steps=0), r"must be at least 1, not 0 \(steps\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_names_the_argument(name: str, model: ddpm_cli.Model, folder: Path) -> None:
    call, reason = REFUSED[name]
    with pytest.raises(ddpm_cli.DdpmError, match=reason) as refused:
        call(model, folder)
    assert "--" not in str(refused.value)


def test_an_export_is_that_of_the_command(folder: Path, tmp_path: Path) -> None:
    done = run_ddpm("export", "tiny", "--half", f"--out={tmp_path / 'command.safetensors'}", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = ddpm_cli.export("tiny", out=tmp_path / "python.safetensors", half=True, runs=folder / "runs")
    assert found.path == tmp_path / "python.safetensors"
    assert all(comparison.holds for comparison in found.comparisons)
    with safe_open(found.path, "np") as own, safe_open(tmp_path / "command.safetensors", "np") as other:
        assert own.metadata() == other.metadata()
        assert set(own.keys()) == set(other.keys())
        assert all(np.array_equal(own.get_tensor(name), other.get_tensor(name)) for name in own.keys())  # noqa: SIM118
    with pytest.raises(ddpm_cli.DdpmError, match="There is no export format 'onx'"):
        ddpm_cli.export("tiny", "onx", runs=folder / "runs")


SWEEP = f"""
preset = "default"
seeds = [0, 1]
{tiny_base({"train.steps": 2, "train.device": "cpu"})}
[grid]
schedule = ["linear", "cosine"]
[evaluate]
metrics = ["loss-per-timestep"]
n = 8
"""


def test_a_sweep_and_a_comparison_are_those_of_the_commands(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(SWEEP)
    done = run_ddpm("sweep", "two.toml", "--no-grids", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    heard: list[ddpm_cli.events.Event] = []
    found = ddpm_cli.sweep(tmp_path / "two.toml", images=0, runs=tmp_path / "python", progress=False, on_event=heard.append)
    assert sum(isinstance(event, ddpm_cli.events.SweepProgress) for event in heard) == 4
    assert found.folder == tmp_path / "python" / "two"
    told, commanded = json.loads((found.folder / "comparison.json").read_text()), json.loads(done.stdout)
    assert [arm["name"] for arm in told["arms"]] == [arm["name"] for arm in commanded["arms"]]
    losses = {run["name"]: (run["loss"], run["held_out_loss"]) for run in told["runs"]}
    assert losses == {run["name"]: (run["loss"], run["held_out_loss"]) for run in commanded["runs"]}
    assert len(losses) == 4
    assert told["measures"]
    assert [one["arms"] for one in told["measures"]] == [one["arms"] for one in commanded["measures"]]
    again = ddpm_cli.compare(
        [found.folder], images=1, out=tmp_path / "again", root=tmp_path / "python", device="cpu", progress=False
    )
    assert {path.name for path in again.files} >= {"comparison.md", "comparison.json", "curves.png", "grids.png"}
    assert all(path.is_file() for path in again.files)
    assert [arm.name for arm in again.comparison.arms] == [arm["name"] for arm in commanded["arms"]]


def test_a_sweep_of_one_run_gives_its_figures_and_writes_no_comparison(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(SWEEP.replace("seeds = [0, 1]", "").replace(', "cosine"', ""))
    heard: list[ddpm_cli.events.Event] = []
    found = ddpm_cli.sweep(tmp_path / "one.toml", runs=tmp_path / "runs", progress=False, on_event=heard.append)
    (run,) = found.comparison.runs
    assert run.path.parent == found.folder == tmp_path / "runs" / "one"
    assert {apart.metric for apart in found.comparison.apart} == {"loss-per-timestep"}
    assert found.files == []
    assert not (found.folder / "comparison.md").exists()
    (said,) = (event.message for event in heard if isinstance(event, ddpm_cli.events.Notice) and "One run" in event.message)
    assert said.endswith(f"lies in {run.path}.")
