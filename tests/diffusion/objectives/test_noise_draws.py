"""Noise that is chosen near the image, and of which x_t and the target are both made."""

from __future__ import annotations

import pytest
import torch
from noise_sources import source
from pydantic import ValidationError
from tiny_configs import tiny_config
from torch import Tensor

from ddpm_cli.build.data import build_dataset
from ddpm_cli.config.schema.objective import ObjectiveConfig
from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.data.images import Dataset
from ddpm_cli.diffusion.objectives.noise_draws import nearest_noise
from ddpm_cli.training.trainer import Draws, Trainer


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_dataset(tiny_config("data.limit=40").data)


def trainer_of(dataset: Dataset, *sets: str) -> Trainer:
    return Trainer(tiny_config("data.limit=40", *sets), dataset, make_accelerator("cpu", "fp32"))


def test_the_nearest_draw_is_taken() -> None:
    x_0 = torch.randn(6, 1, 4, 4, generator=source(1))
    candidates = torch.randn(6, 5, 1, 4, 4, generator=source(2))
    found = nearest_noise(x_0, candidates)
    for image, draws, noise in zip(x_0, candidates, found, strict=True):
        distances = [float((draw - image).norm()) for draw in draws]
        assert torch.equal(noise, draws[distances.index(min(distances))])


def test_an_image_chooses_by_itself() -> None:
    x_0, candidates = torch.randn(6, 1, 4, 4, generator=source(1)), torch.randn(6, 5, 1, 4, 4, generator=source(2))
    assert torch.equal(nearest_noise(x_0[2:4], candidates[2:4]), nearest_noise(x_0, candidates)[2:4])


class Recorder:
    """Keeps what a loss is given."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, network: object, x_0: Tensor, t: Tensor, eps: Tensor, schedule: object) -> Tensor:
        self.seen.append((x_0, t, eps))
        return x_0.flatten(1).mean(1).requires_grad_()


def test_what_is_noised_and_what_is_to_be_told_share_the_noise_that_was_chosen(dataset: Dataset) -> None:
    """The loss, which makes both of one eps, is given the chosen one, beside the image that chose it."""
    trainer = trainer_of(dataset, "objective.noise_candidates=8", "train.batch_size=8", "train.micro_batch_size=3")
    recorder = trainer.loss = Recorder()  # type: ignore[assignment]
    candidates = torch.randn(8, 8, *dataset.image_shape, generator=source(3))
    draws = Draws(torch.arange(8), torch.ones(8), candidates, None)
    for part in (slice(0, 3), slice(3, 8)):
        trainer.run_pass(trainer.network, part, draws)
    x_0, _, eps = (torch.cat(parts) for parts in zip(*recorder.seen, strict=True))
    assert torch.equal(x_0, trainer.batches.images_at(0))
    assert torch.equal(eps, nearest_noise(x_0, candidates))
    assert not torch.equal(eps, candidates[:, 0])


def test_it_trains_otherwise_and_one_draw_is_what_was_before(dataset: Dataset) -> None:
    losses = []
    for sets in ((), ("objective.noise_candidates=1",), ("objective.noise_candidates=4",)):
        trainer = trainer_of(dataset, *sets)
        trainer.train_step()
        losses.append(trainer.losses.mean("interval"))
    assert losses[0] == losses[1] != losses[2]


def test_a_bound_takes_noise_as_it_comes() -> None:
    with pytest.raises(ValidationError, match="noise that is chosen makes no bound"):
        ObjectiveConfig.model_validate({"loss": "vlb", "noise_candidates": 2})
