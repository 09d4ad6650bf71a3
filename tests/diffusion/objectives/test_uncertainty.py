"""The weighting that is learned: what it learns, its gradient by hand, and what of it is told and kept."""

from __future__ import annotations

import math

import pytest
import torch
from noise_sources import source
from pydantic import ValidationError
from tiny_configs import tiny_config
from torch import Tensor

from ddpm_cli.build.data import build_dataset
from ddpm_cli.config.schema.objective import LearnedWeighting, ObjectiveConfig
from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.data.images import Dataset
from ddpm_cli.diffusion.objectives.uncertainty import LARGEST_HALF_LOGSNR, LogLossNetwork, Uncertainty
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.training.trainer import Trainer

LEARNED = "objective.weighting=learned"


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_dataset(tiny_config().data)


def trainer_of(dataset: Dataset, *sets: str) -> Trainer:
    return Trainer(tiny_config(*sets), dataset, make_accelerator("cpu", "fp32"))


def loss_at(t: Tensor) -> Tensor:
    """An error that does not change: it falls from 0.9 to 0.004 and rises a little, as that of eps does."""
    share = t.double() / 999
    return (0.9 * torch.exp(-8.0 * share) + 0.004 + 0.02 * (share > 0.9)).float()


def test_of_fixed_errors_it_learns_the_logarithm(linear: NoiseSchedule) -> None:
    """The minimum over u of loss / exp(u) + u is log loss, whatever noise the single losses have."""
    uncertainty = Uncertainty(LearnedWeighting().learning_rate, fused=True)
    draws = source(1)
    for _ in range(500):
        t = torch.randint(1000, (128,), generator=draws)
        losses = loss_at(t) * -torch.rand(128, generator=draws).log()  # of mean loss_at(t)
        uncertainty.backward(t, linear, losses, torch.ones(128))
        uncertainty.optimizer.step()
        uncertainty.optimizer.zero_grad()
    t = torch.tensor([5, 50, 200, 400, 600, 800])
    found = uncertainty.log_losses(t, linear).detach()
    assert float((found - loss_at(t).log()).abs().max()) < 0.35
    torch.testing.assert_close(uncertainty.weights(t, linear), torch.exp(-found))


def test_its_gradient_is_that_of_the_papers_loss(linear: NoiseSchedule) -> None:
    """By hand: the mean of weights * (1 - loss / exp(u)) * features."""
    uncertainty = Uncertainty(0.01)
    with torch.no_grad():
        uncertainty.network.weight.copy_(torch.randn(65, generator=source(1)))
    t, losses, weights = torch.tensor([0, 300, 999]), torch.tensor([0.7, 0.1, 0.02]), torch.tensor([1.0, 2.0, 0.5])
    uncertainty.backward(t, linear, losses, weights)
    c = torch.tensor([math.log(linear.sigmas[step]) / 4 for step in t.tolist()])
    waves = math.sqrt(2) * torch.cos(2 * math.pi * (c[:, None] * uncertainty.network.frequency + uncertainty.network.phase))
    features = torch.cat([torch.ones(3, 1), waves], dim=1) / math.sqrt(65)
    u = features @ uncertainty.network.weight.detach()
    expected = (weights * (1 - losses / u.exp()))[:, None] * features
    assert uncertainty.network.weight.grad is not None
    torch.testing.assert_close(uncertainty.network.weight.grad, expected.mean(0), rtol=1e-3, atol=1e-4)


def test_it_is_smooth_finite_and_nothing_at_first(linear: NoiseSchedule) -> None:
    network = LogLossNetwork()
    at = torch.tensor([-math.inf, -30.0, 0.0, math.inf])
    assert torch.equal(network(at), torch.zeros(4))
    torch.nn.init.normal_(network.weight, generator=source(2))
    ends = network(torch.tensor([-LARGEST_HALF_LOGSNR, LARGEST_HALF_LOGSNR]))
    assert torch.equal(network(at)[[0, 3]], ends)
    grid = network(torch.linspace(-9.0, 9.0, 2000)).detach()
    assert float(grid.diff().abs().max()) < 0.1


def test_the_model_moves_by_what_is_divided_and_tells_what_is_not(dataset: Dataset) -> None:
    """The gradient is that of losses times exp(-u), as constants; the loss that is told is that of simple."""
    told, gradients = [], []
    for sets in ((), (LEARNED,)):
        trainer = trainer_of(dataset, *sets)
        if trainer.uncertainty:
            with torch.no_grad():
                trainer.uncertainty.network.weight[0] = -math.log(4.0) * math.sqrt(65)  # u = -log 4 everywhere
        seen: list[Tensor] = []
        trainer.model.conv_out.weight.register_hook(lambda gradient, seen=seen: seen.append(gradient.clone()))
        trainer.train_step()
        told.append(trainer.losses.mean("interval"))
        gradients.append(seen[0])
    assert told[0] == told[1]
    torch.testing.assert_close(gradients[1], 4.0 * gradients[0])
    assert float(gradients[0].abs().max()) > 0


def test_training_moves_it_only_where_it_moves_the_model(dataset: Dataset) -> None:
    trainer = trainer_of(dataset, LEARNED)
    trainer.train_step()
    assert trainer.uncertainty is not None
    weight = trainer.uncertainty.network.weight
    before = [weight.detach().clone(), *(parameter.detach().clone() for parameter in trainer.parameters)]
    assert float(before[0].detach().abs().max()) > 0
    loss = trainer.loss
    trainer.loss = lambda *arguments: loss(*arguments) * math.nan
    trainer.train_step()
    assert all(torch.equal(now, then) for now, then in zip([weight, *trainer.parameters], before, strict=True))
    trainer.loss = loss
    trainer.train_step()
    assert not torch.equal(weight, before[0])


def test_it_is_no_part_of_the_model_and_its_averages(dataset: Dataset) -> None:
    plain, learned = trainer_of(dataset), trainer_of(dataset, LEARNED)
    assert plain.model.state_dict().keys() == learned.model.state_dict().keys()
    assert plain.ema.model.state_dict().keys() == learned.ema.model.state_dict().keys()


@pytest.mark.parametrize(
    "sets",
    [
        ("objective.parameterization=edm", "objective.timesteps=log-normal"),  # levels between the steps
        ("objective.parameterization=v", "schedule={kind='cosine', zero_terminal_snr=true}", "objective.timesteps=stratified"),
        ("objective.loss=consistency",),
        ("schedule=learned",),
        ("objective.timesteps={kind='loss-aware', history=1}", "schedule.timesteps=6"),
    ],
    ids=str,
)
def test_it_goes_with_the_other_choices(dataset: Dataset, sets: tuple[str, ...]) -> None:
    trainer = trainer_of(dataset, LEARNED, *sets)
    for _ in range(3):
        trainer.train_step()
    assert trainer.uncertainty is not None
    assert bool(trainer.uncertainty.network.weight.isfinite().all())
    assert float(trainer.uncertainty.network.weight.detach().abs().max()) > 0
    assert trainer.health.state()["health"]["skipped_in_a_row"] == 0
    assert math.isfinite(trainer.losses.mean("interval"))


def test_a_bound_is_not_weighted() -> None:
    with pytest.raises(ValidationError, match='the weighting "learned" would weight the bound in the loss "hybrid"'):
        ObjectiveConfig.model_validate({"loss": "hybrid", "weighting": "learned"})
    with pytest.raises(ValidationError, match='weighting "learned" has no effect on the loss "vlb"'):
        ObjectiveConfig.model_validate({"loss": "vlb", "weighting": "learned"})
