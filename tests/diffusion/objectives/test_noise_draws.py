"""Noise that is chosen near the image, and of which x_t and the target are both made."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from noise_sources import source
from pydantic import ValidationError
from tiny_configs import tiny_config
from torch import Tensor

from ddpm_cli.build.data import build_dataset
from ddpm_cli.config.schema.objective import ObjectiveConfig
from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.data.images import Dataset
from ddpm_cli.diffusion.forward import Levels, noised
from ddpm_cli.diffusion.objectives.noise_draws import nearest_noise, transported_noise
from ddpm_cli.diffusion.prediction import eps_from_x_0
from ddpm_cli.training.trainer import Draws, Trainer

TRANSPORT = "objective.coupling=optimal-transport"


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
    for sets in ((), ("objective.noise_candidates=1",), ("objective.noise_candidates=4",), (TRANSPORT,)):
        trainer = trainer_of(dataset, *sets)
        trainer.train_step()
        losses.append(trainer.losses.mean("interval"))
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_a_bound_takes_noise_as_it_comes() -> None:
    with pytest.raises(ValidationError, match="noise that is chosen makes no bound"):
        ObjectiveConfig.model_validate({"loss": "vlb", "noise_candidates": 2})
    for loss in ("vlb", "hybrid"):
        with pytest.raises(ValidationError, match="noise that is chosen makes no bound"):
            ObjectiveConfig.model_validate({"loss": loss, "coupling": "optimal-transport"})


def test_noise_is_chosen_once() -> None:
    with pytest.raises(ValidationError, match="noise is chosen twice"):
        ObjectiveConfig.model_validate({"noise_candidates": 2, "coupling": "optimal-transport"})
    ObjectiveConfig.model_validate({"loss": "consistency", "coupling": "optimal-transport"})


# ------------------------------------------------------------------------------------------------------- optimal transport


def cost(x_0: Tensor, eps: Tensor) -> float:
    return float((x_0 - eps).double().square().sum())


def test_transport_has_the_least_cost_of_all_permutations() -> None:
    for seed in range(5):
        x_0, eps = (torch.randn(6, 2, 3, 3, generator=source(10 * seed + place)) for place in (0, 1))
        least = min(cost(x_0, eps[list(order)]) for order in permutations(range(6)))
        found = transported_noise(x_0, eps)
        assert cost(x_0, found) == pytest.approx(least, rel=1e-12)
        assert least < cost(x_0, eps)


def test_of_single_numbers_the_smallest_goes_to_the_smallest() -> None:
    """On a line the optimal transport of a convex cost is the sorted one (Villani 2003, Th. 2.18)."""
    x_0, eps = (torch.randn(200, 1, 1, 1, generator=source(seed)) for seed in (1, 2))
    found = transported_noise(x_0, eps)
    assert torch.equal(found.flatten()[x_0.flatten().argsort()], eps.flatten().sort().values)


def test_four_images_by_hand() -> None:
    x_0 = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).view(4, 1, 1, 2)
    eps = torch.tensor([[0.1, 2.0], [0.3, -2.0], [-2.0, 0.2], [2.0, 0.4]]).view(4, 1, 1, 2)
    assert torch.equal(transported_noise(x_0, eps), eps[[2, 3, 0, 1]])
    # Left and up are one class, right and down the other: two exchanges are left.
    assert torch.equal(transported_noise(x_0, eps, torch.tensor([5, 9, 5, 9])), eps[[2, 3, 0, 1]])
    assert torch.equal(transported_noise(x_0, eps, torch.tensor([5, 5, 9, 9])), eps[[0, 1, 3, 2]])
    assert torch.equal(transported_noise(x_0, eps, torch.arange(4)), eps)


def test_a_class_gets_none_of_the_noise_of_another() -> None:
    x_0, eps = (torch.randn(40, 1, 4, 4, generator=source(seed)) for seed in (1, 2))
    classes = torch.randint(3, (40,), generator=source(3))
    found = transported_noise(x_0, eps, classes)
    for label in range(3):
        ours = classes == label
        assert torch.equal(found[ours], transported_noise(x_0[ours], eps[ours]))
        assert {tuple(row.flatten().tolist()) for row in found[ours]} == {tuple(row.flatten().tolist()) for row in eps[ours]}


def mean_noise_of_class_0(told: Callable[[Tensor], Tensor | None]) -> float:
    """How many standard deviations the mean of one class's noise is from 0: 4 batches of 64 numbers, its images at -1 of +-1."""
    kept = []
    for seed in range(4):
        classes = torch.randint(2, (64,), generator=source(seed))
        x_0 = (2.0 * classes - 1.0).view(-1, 1, 1, 1)
        eps = torch.randn(64, 1, 1, 1, generator=source(100 + seed))
        kept.append(transported_noise(x_0, eps, told(classes))[classes == 0].flatten())
    noise = torch.cat(kept)
    return float(noise.mean() * len(noise) ** 0.5)


def test_the_noise_of_a_class_stays_standard_normal() -> None:
    """False alarms: one in 15,000 for other seeds (4 standard deviations). Across classes the mean is tens of them away."""
    assert abs(mean_noise_of_class_0(lambda classes: classes)) < 4.0
    assert abs(mean_noise_of_class_0(lambda classes: None)) > 8.0


def batch_of(trainer: Trainer) -> tuple[Tensor, Tensor]:
    """Images and noise that a loss is given in one step, in the order of the global batch."""
    recorder = trainer.loss = Recorder()  # type: ignore[assignment]
    count = trainer.config.train.batch_size
    eps = torch.randn(count, 1, *trainer.image_shape, generator=source(7))
    trainer.accumulate_gradients(torch.arange(count), torch.ones(count), eps)
    seen, _, noise = (torch.cat(parts) for parts in zip(*recorder.seen, strict=True))
    assert torch.equal(seen, trainer.batches.images_at(0))
    return noise, eps[:, 0]


@pytest.mark.parametrize("micro", ["none", "3"])
def test_all_images_of_a_step_take_part_whatever_passes_they_are_in(dataset: Dataset, micro: str) -> None:
    trainer = trainer_of(dataset, TRANSPORT, f"train.micro_batch_size={micro}")
    noise, drawn = batch_of(trainer)
    assert torch.equal(noise, transported_noise(trainer.batches.images_at(0), drawn))
    assert not torch.equal(noise, drawn)


class SecondOfTwo:
    """Says that there is another process, and adds nothing of it."""

    num_processes, process_index = 2, 1

    def __init__(self, alone: Accelerator) -> None:
        self.alone = alone

    def __getattr__(self, name: str) -> Any:
        return getattr(self.alone, name)

    def reduce(self, values: Tensor, _: str) -> Tensor:
        return values


def test_a_process_takes_its_rows_of_what_one_alone_would(dataset: Dataset) -> None:
    whole, drawn = batch_of(trainer_of(dataset, TRANSPORT))
    trainer = trainer_of(dataset, TRANSPORT)
    trainer.accelerator = SecondOfTwo(trainer.accelerator)  # type: ignore[assignment]
    recorder = trainer.loss = Recorder()  # type: ignore[assignment]
    trainer.accumulate_gradients(torch.arange(8), torch.ones(8), drawn[:, None])
    assert torch.equal(recorder.seen[0][2], whole[4:])


def test_only_images_that_the_network_is_told_the_same_of_exchange_noise(dataset: Dataset) -> None:
    """Labels, of which some are hidden, and whether an image was augmented."""
    sets = ("model.num_classes=10", "objective.label_dropout=0.4", "data.augment=0.1", "train.batch_size=60")
    trainer = trainer_of(dataset, TRANSPORT, *sets)
    noise, drawn = batch_of(trainer)
    labels, vectors = trainer.draw_labels(), trainer.batches.vectors_at(0)
    assert labels is not None
    assert vectors is not None
    source_of = {tuple(row.flatten().tolist()): place for place, row in enumerate(drawn)}
    came_from = torch.tensor([source_of[tuple(row.flatten().tolist())] for row in noise])
    plain = (vectors == 0).all(1)
    assert torch.equal(labels[came_from], labels)
    assert torch.equal(plain[came_from], plain)
    assert 0 < int(plain.sum()) < len(plain)
    assert not torch.equal(came_from, torch.arange(60))


@pytest.mark.parametrize("kind", ["eps", "v", "edm"])
def test_a_network_that_knows_the_images_has_no_error(kind: str, dataset: Dataset) -> None:
    """It finds the noise in x_t, and tells it: where x_t and the target are made of different noise, the loss is near 1."""
    trainer = trainer_of(dataset, TRANSPORT, f"objective.parameterization={kind}", "schedule=cosine")
    prediction, t = trainer.config.objective.build_prediction(), torch.linspace(100, 900, 8).long()
    x_0 = trainer.batches.images_at(0)
    at, one = Levels.of_steps(trainer.schedule, t, x_0), torch.ones(1, requires_grad=True)

    def knowing(x: Tensor, _: Tensor) -> Tensor:
        x_t = x / prediction.network_input(torch.ones_like(x), at)[0]
        return one * prediction.target(x_0, eps_from_x_0(x_t, x_0, at), at)

    trainer.predict = knowing
    losses = trainer.accumulate_gradients(t, torch.ones(8), torch.randn(8, 1, *x_0.shape[1:], generator=source(8)))
    assert float(losses.max()) < 1e-6
    others = torch.randn(x_0.shape, generator=source(9))
    told = knowing(prediction.network_input(noised(x_0, others.flip(0), at), at)[0], t)
    assert float((prediction.target(x_0, others, at) - told.detach()).square().mean()) > 0.1
