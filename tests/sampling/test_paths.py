"""Sampling along another path as users ask for it: the same noise, what goes with it, and what is refused."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Ddpm, assert_refused
from torch import Tensor
from trained_models import trained_model

import ddpm_cli
from ddpm_cli.config.resolve.loader import override
from ddpm_cli.config.resolve.outline import sections
from ddpm_cli.sampling.drawing import drawing_facts
from ddpm_cli.sampling.generate import Frames, generate_samples
from ddpm_cli.sampling.trained_model import Guide, TrainedModel

PATHS = [kind for kind in sections()["sample.path"] if kind != "own"]
SCHEDULES = ("schedule=linear", "schedule=flow")
CLASSES = ("model.num_classes=3", "objective.label_dropout=0.1", "sample.guidance={scale=2.5,interval=[0.2,9.0],rescale=0.4}")


def drawn(model: TrainedModel, path: str, *sets: str) -> Tensor:
    """Three images, as the model stores them, in floats."""
    settings = override(model.config, sets=[f"sample.path={path}", *sets]).sample
    return torch.cat(list(generate_samples(model, range(3), settings))).double()


def model_of(schedule: str, *sets: str) -> TrainedModel:
    return trained_model("objective.parameterization=v", "schedule.timesteps=40", schedule, *sets)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("path", PATHS)
def test_images_begin_with_the_same_noise_and_come_together(path: str, schedule: str) -> None:
    """A single step is the same on every path; with more, steps lie elsewhere, and the images come to the same."""
    model = model_of(schedule)

    def apart(steps: int) -> Tensor:
        drawing = ("sample.sampler=heun", "sample.threshold=none", f"sample.sampler.steps={steps}")
        return (drawn(model, path, *drawing) - exact).abs().mean()

    once = ("sample.sampler=ddim", "sample.sampler.steps=1")
    assert (drawn(model, path, *once) - drawn(model, "own", *once)).abs().max() <= 1  # of rounding
    exact = drawn(model, "own", "sample.sampler=heun", "sample.threshold=none", "sample.sampler.steps=40")
    assert apart(40) < 0.5 < apart(6)


@pytest.mark.parametrize("path", PATHS)
def test_guidance_and_guides_go_along(path: str) -> None:
    """Each changes the images; with a scale of 1 they are those without, and each stays finite and varied."""
    model = model_of("schedule=linear", *CLASSES)
    guided = replace(model, guide=Guide(model_of("schedule=cosine", *CLASSES, "model.scale_shift_norm=true"), "weaker"))
    steps = ("sample.sampler=dpm-solver++", "sample.sampler.steps=8")
    weak = ("sample.guide.model=weaker", "sample.guide.scale=1.7")
    images = [
        drawn(model, path, *steps, "sample.guidance.scale=1"),
        drawn(model, path, *steps),
        drawn(guided, path, *steps, *weak),
    ]
    assert all(image.std() > 5 for image in images)
    assert all((one - other).abs().mean() > 0.5 for one, other in itertools.combinations(images, 2))
    assert torch.equal(drawn(guided, path, *steps, *weak[:1], "sample.guide.scale=1"), images[1])


def test_moments_of_the_denoising_are_seen_in_the_models_own_coordinates() -> None:
    """In those of edm the first would be all black and white."""
    model, frames = model_of("schedule=linear"), Frames()
    settings = override(model.config, sets=["sample.path=edm", "sample.sampler=ddim", "sample.sampler.steps=8"]).sample
    *_, images = generate_samples(model, [0, 1], settings, on_frame=frames)
    first, *_, last = frames.stacked()
    assert np.isin(first, [0, 255]).mean() < 0.5
    assert np.array_equal(last, images.numpy())


@pytest.fixture(scope="module")
def tiny(trained_folder: Path) -> ddpm_cli.Model:
    return ddpm_cli.load("tiny", runs=trained_folder / "runs", device="cpu")


@pytest.mark.parametrize("path", PATHS)
def test_editing_goes_along(path: str, tiny: ddpm_cli.Model) -> None:
    """A filling keeps what is known, a variation of strength 0 all of it; the ends of an interpolation are those of its seeds."""
    image = tiny.sample(1, progress=False, steps=2)[0]
    mask = np.zeros((28, 28), dtype=bool)
    mask[14:] = True
    way: dict[str, Any] = {"set": {"sample.path": path}, "progress": False}
    filled = tiny.inpaint(image, mask, steps=6, resample=2, jump=2, **way)[0]
    assert np.array_equal(filled[:14], image[:14])
    assert not np.array_equal(filled[14:], image[14:])
    assert np.array_equal(tiny.img2img(image, 0.0, **way)[0], image)
    weak, strong = (np.abs(tiny.img2img(image, s, steps=10, **way)[0].astype(float) - image).mean() for s in (0.1, 1.0))
    assert weak < strong
    ends = tiny.interpolate(3, 4, 3, steps=6, **way)[[0, -1]]
    spaced = {"sample.path": path, "sample.sampler.spacing": "logsnr"}
    assert np.array_equal(ends, tiny.sample(seeds=[3, 4], sampler="ddim", steps=6, set=spaced, progress=False))


def test_figures_tell_of_the_path_and_older_ones_stay_as_they_are() -> None:
    config = model_of("schedule=linear").config
    own, flow = (drawing_facts(override(config, sets=[f"sample.path={kind}"]).sample, 40) for kind in ("own", "flow"))
    assert (flow["path"], flow["path_options"]) == ("flow", "{}")
    assert {name: value for name, value in flow.items() if not name.startswith("path")} == own


def test_by_command(trained_folder: Path, ddpm_here: Ddpm) -> None:
    """The command says the path, and where it is part of the run's config, no option is needed."""
    line = ("sample", str(trained_folder / "runs" / "tiny"), "--n=2", "--steps=3", "--sampler=heun", "--json")
    own, flow = (json.loads(ddpm_here(*line, f"--out={kind}.png", f"--set=sample.path={kind}").stdout) for kind in ("own", "flow"))
    assert ("path" in own, flow["path"]) == (False, {"kind": "flow"})
    assert Path(own["files"][0]).name == "own.png"
    assert "along the path flow" in ddpm_here(*line[:-1], "--set=sample.path=flow").stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("sample", "--set=sample.path=straight"), ("sample.path", "straight", "flow, trig-flow, edm")),
        (("sample", "--set=sample.path=flow", "--set=sample.timesteps=[49,20]"), ("listed steps", 'path must be "own"')),
        (("sample", "--set=sample.path=flow", "--sampler=tuned"), ("sample.path has no place", "tuned")),
        (("tune-sampler", "--set=sample.path=edm"), ("sample.path has no place here", "sample.path=own")),
    ],
)
def test_what_does_not_go_along_is_refused(
    line: tuple[str, ...], words: tuple[str, ...], trained_folder: Path, ddpm_here: Ddpm, tmp_path: Path
) -> None:
    command, *options = line
    assert_refused(ddpm_here(command, str(trained_folder / "runs" / "tiny"), *options), *words)
    assert list(tmp_path.iterdir()) == []
