"""Straight paths as diffusers' FlowMatchEulerDiscreteScheduler: out, run by diffusers alone, and in again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from trained_models import trained_model

from ddpm_cli.config.schema.sample import EulerSampler, LinspaceSpacing
from ddpm_cli.errors import CheckpointError, RequestError
from ddpm_cli.interop.diffusers.config import inexpressible
from ddpm_cli.interop.diffusers.export import compare_diffusers, write_diffusers
from ddpm_cli.interop.import_model import import_model
from ddpm_cli.interop.same_noise import sample_from, seeded_noise
from ddpm_cli.sampling.diffusers.scheduler import STRAIGHT, read_scheduler
from ddpm_cli.sampling.generate import load_trained
from ddpm_cli.sampling.trained_model import TrainedModel

FLOW = ("schedule=flow", "objective.parameterization=flow", "schedule.timesteps=1000")


def folder_of(model: TrainedModel, path: Path) -> Path:
    folder = path / "exported"
    folder.mkdir()
    write_diffusers(model, folder, "mit", half=False)
    return folder


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_diffusers_makes_the_same_of_it(shift: float, tmp_path: Path) -> None:
    model = trained_model(*FLOW, f"schedule.shift={shift}", "sample.path=edm")
    folder = folder_of(model, tmp_path)
    found = compare_diffusers(model, folder, images=True)
    assert [comparison.what for comparison in found] == ["prediction", "images of Euler, 10 steps"]
    assert all(comparison.holds for comparison in found), found
    card = (folder / "README.md").read_text()
    assert "FlowMatchEulerDiscreteScheduler" in card
    assert "along another path (edm)" in card
    assert "{" not in card.partition("---\n\n#")[2]


def test_its_pipeline_alone_draws_the_images_of_our_sampler(tmp_path: Path) -> None:
    """4 steps of linspace spacing, whole ones of 1000 in both."""
    from diffusers import DDPMPipeline

    model = trained_model(*FLOW, "sample.threshold=none")
    pipeline = DDPMPipeline.from_pretrained(folder_of(model, tmp_path), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(2, torch.Generator().manual_seed(5), num_inference_steps=4, output_type="np").images
    x_T = seeded_noise((2, *model.image_shape), 5)()
    ours = (sample_from(model, EulerSampler(steps=4, spacing=LinspaceSpacing()), x_T, seeded_noise(x_T.shape, 0)) / 2 + 0.5).clamp(
        0, 1
    )
    assert ours.std() > 0.1
    assert torch.allclose(torch.from_numpy(drawn).permute(0, 3, 1, 2), ours, rtol=0, atol=5e-4)


def test_it_comes_back_as_the_same_model(tmp_path: Path) -> None:
    model = trained_model(*FLOW, "schedule.shift=2.5", "sample.threshold=none", shape=(1, 8, 8))
    made = import_model(folder_of(model, tmp_path), "back", runs=tmp_path / "runs")
    assert made.differences == ("Its shift is 2.5, which moves its last level twice there, and once here.",)
    back = load_trained(made.run, torch.device("cpu"))
    assert back.config.schedule == model.config.schedule
    assert back.config.objective.parameterization == model.config.objective.parameterization
    x_T = seeded_noise((2, *model.image_shape), 1)()
    sampler = back.config.sample.sampler.model_copy(update={"steps": 5})
    images = [sample_from(one, sampler, x_T, seeded_noise(x_T.shape, 0)) for one in (model, back)]
    assert torch.allclose(*images, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        (("schedule=trig-flow", "objective.parameterization=v"), 'no path "trig-flow"'),
        (("schedule=flow", "objective.parameterization=v"), 'velocities alone, not "v"'),
        (("schedule=cosine", "objective.parameterization=flow"), 'no parameterization "flow"'),
    ],
)
def test_what_it_cannot_be_is_one_reason(sets: tuple[str, ...], reason: str) -> None:
    (found,) = inexpressible(trained_model(*sets).config, (1, 8, 12))
    assert reason in found


def test_what_an_import_leaves_out_is_told() -> None:
    settings, differences = read_scheduler({"use_karras_sigmas": True, "shift": 1.0}, STRAIGHT, Path("s.json"))
    assert (settings["schedule.kind"], settings["schedule.timesteps"]) == ("flow", 1000)
    assert differences == ("Settings of its scheduler that have no counterpart here were left out: use_karras_sigmas = True.",)


@pytest.mark.parametrize(
    ("scheduler", "error", "words"),
    [
        ({"invert_sigmas": True}, RequestError, "from image to noise"),
        ({"shift": "much"}, CheckpointError, "damaged"),
        ({"shift": -1.0}, CheckpointError, "damaged"),
        ({"num_train_timesteps": 0}, CheckpointError, "damaged"),
    ],
)
def test_an_import_that_cannot_be_is_refused(scheduler: dict[str, object], error: type[RequestError], words: str) -> None:
    with pytest.raises(error) as caught:
        read_scheduler(scheduler, STRAIGHT, Path("s.json"))
    assert words in f"{caught.value.message} {caught.value.remedy}"
