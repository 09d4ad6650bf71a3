"""Training that is led away from an earlier self: its aim, when it sets in, and where it settles."""

from __future__ import annotations

import pytest
import torch
from noise_sources import source
from pydantic import ValidationError
from tiny_configs import tiny_config
from torch import Tensor, nn

from ddpm_cli.build.data import build_dataset
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.schema.objective import AutoguidanceConfig
from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.data.images import Dataset
from ddpm_cli.diffusion.denoise import predictor
from ddpm_cli.diffusion.forward import Levels, noised
from ddpm_cli.diffusion.objectives.autoguidance import Autoguidance
from ddpm_cli.diffusion.objectives.losses import p_losses
from ddpm_cli.diffusion.prediction import X0, Edm, Eps, Prediction, V
from ddpm_cli.diffusion.schedules import NoiseSchedule, make_beta_schedule
from ddpm_cli.errors import ConfigError
from ddpm_cli.training.trainer import Trainer

GUIDED = ("objective.autoguidance.scale=2", "objective.autoguidance.kept_at=0.25", "objective.autoguidance.start=0.5")


class Scaled(nn.Module):
    """Says its input times a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
        return self.factor * x


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_dataset(tiny_config("data.limit=40").data)


def trainer_of(dataset: Dataset, *sets: str) -> Trainer:
    return Trainer(tiny_config("data.limit=40", *sets), dataset, make_accelerator("cpu", "fp32"))


@pytest.mark.parametrize("prediction", [Eps(), X0(), V(), Edm()])
def test_the_aim_is_the_guided_prediction_and_makes_the_same_x_t(prediction: Prediction) -> None:
    """A network that says what is guided at scale s has no error but that of the image itself."""
    schedule, scale = NoiseSchedule.from_betas(make_beta_schedule("cosine", 100)), 3.0
    x_0 = torch.randn(5, 1, 4, 4, generator=source(1), dtype=torch.float64)
    eps, t = torch.randn(x_0.shape, generator=source(2), dtype=torch.float64), torch.tensor([0, 20, 50, 80, 98])
    own, guide = Scaled(0.7), Scaled(0.2)
    guidance = Autoguidance(prediction, scale, 0.1, 0.5, guide, guides=True)
    aim, noise = guidance.aim(own, x_0, t, eps, schedule)
    at = Levels.of_steps(schedule, t, x_0)
    x_t = noised(x_0, eps, at)
    torch.testing.assert_close(noised(aim, noise, at), x_t, rtol=1e-9, atol=1e-9)
    ours, theirs = (predictor(network, schedule, prediction)(x_t, at, None).x0_hat for network in (own, guide))
    torch.testing.assert_close(aim, x_0 + (1 - 1 / scale) * (ours - theirs))


def test_it_settles_where_autoguidance_draws() -> None:
    """A network of one number, told the same image each time, ends at guide + scale * (E[x_0 | x_t] - guide)."""
    scale, mean = 2.0, 0.4
    x_0 = torch.full((64, 1, 2, 2), mean, dtype=torch.float64)
    network, earlier = Scaled(1.0), Scaled(0.3)
    schedule, t = NoiseSchedule.from_betas(make_beta_schedule("cosine", 100)), torch.full((64,), 50)
    guidance = Autoguidance(X0(), scale, 0.1, 0.5, earlier, guides=True)
    eps = torch.zeros_like(x_0)  # so that x_t = alpha * x_0, of which every prediction here is a multiple
    alpha = float(Levels.of_steps(schedule, t, x_0).alpha[0])
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    for _ in range(600):
        aim, noise = guidance.aim(network, x_0, t, eps, schedule)
        optimizer.zero_grad()
        torch.autograd.backward(p_losses(network, aim, t, noise, schedule, X0()).mean())
        optimizer.step()
    assert float(network.factor.detach()) == pytest.approx(0.3 + scale * (1 / alpha - 0.3), rel=1e-4)


def test_the_earlier_self_is_kept_once_and_leads_from_its_start_on(dataset: Dataset) -> None:
    trainer = trainer_of(dataset, *GUIDED)
    guidance = trainer.autoguidance
    assert guidance is not None
    for share, kept, guides in ((0.0, False, False), (0.25, True, False), (0.5, True, True), (0.4, True, False)):
        trainer.share = share
        average = {name: value.clone() for name, value in trainer.ema.model.state_dict().items()}
        trainer.train_step()
        assert (guidance.guide is not None, guidance.guides) == (kept, guides)
        if share == 0.25:
            at_first = average
    assert guidance.guide is not None
    assert all(torch.equal(value, at_first[name]) for name, value in guidance.guide.state_dict().items())


def test_training_differs_from_its_start_on_and_not_before(dataset: Dataset) -> None:
    losses: list[list[float]] = []
    for sets in ((), GUIDED):
        trainer = trainer_of(dataset, *sets)
        losses.append([])
        for share in (0.0, 0.3, 0.45, 0.6, 0.7):
            trainer.share = share
            trainer.train_step()
            losses[-1].append(trainer.losses.mean("interval"))
    plain, guided = losses
    assert plain[:3] == guided[:3]
    assert plain[3:] != guided[3:]


def test_the_guide_gets_no_gradient_and_the_average_neither(dataset: Dataset) -> None:
    trainer = trainer_of(dataset, *GUIDED)
    for share in (0.3, 0.6):
        trainer.share = share
        trainer.train_step()
    assert trainer.autoguidance is not None
    assert trainer.autoguidance.guide is not None
    assert all(p.grad is None for network in (trainer.autoguidance.guide, trainer.ema.model) for p in network.parameters())


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["objective.loss=vlb"], "autoguidance does not go with"),
        (["train.sharding=full"], "keeps whole copies"),
        (["schedule.kind=learned", "objective.loss=simple"], "needs a schedule that stays as it is"),
    ],
)
def test_it_is_refused_where_it_cannot_be(sets: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(sets=["objective.autoguidance.scale=2", *sets])


def test_the_earlier_self_must_be_earlier() -> None:
    with pytest.raises(ValidationError, match="must be there before"):
        AutoguidanceConfig(kept_at=0.5, start=0.5)
