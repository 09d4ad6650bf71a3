"""Every loss and option of the objective on the paths of flow matching, in training's own terms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ddpm_cli.config.schema.config import Config
from ddpm_cli.core.compute.seeds import generator
from ddpm_cli.training.held_out import held_out_losses

PARAMETERIZATIONS = ("x0", "v", "flow")
WEIGHTINGS = ("simple", "snr", "min-snr", "velocity")
LOSSES = ("simple", "consistency")


class Tiny(nn.Module):
    """A network of one weight for the image and one for the time it is told, which must lie in [0, T]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.3, 0.1]))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        assert t.dtype == torch.float32
        assert float(t.min()) > 0.0
        assert float(t.max()) <= 1000.0
        return self.weight[0] * x_t + self.weight[1] * (t / 1000.0).view(-1, 1, 1, 1)


def config_of(schedule: str, **objective: object) -> Config:
    return Config.model_validate({"schedule": schedule, "objective": objective})


@pytest.mark.parametrize("schedule", ["flow", "trig-flow"])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_losses_and_gradients_are_finite_at_any_t(schedule: str, parameterization: str, weighting: str) -> None:
    x_0 = torch.rand(64, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1))
    t = torch.cat([torch.linspace(-0.99, 999.0, 63, dtype=torch.float64), torch.tensor([999.0], dtype=torch.float64)])
    for loss in LOSSES:
        if (loss, parameterization) == ("consistency", "x0"):
            continue
        config = config_of(schedule, parameterization=parameterization, weighting=weighting, loss=loss)
        network = Tiny()
        for share in (0.0, 0.5, 1.0):
            losses = config.objective.build_loss_at(share)(network, x_0, t, eps, config.schedule.build())
            assert losses.isfinite().all(), (loss, share, losses)
            losses.mean().backward()
        assert network.weight.grad is not None
        assert network.weight.grad.isfinite().all()


def test_the_held_out_loss_of_a_path_is_that_of_uniform_t() -> None:
    """Of a network that says 0 the loss is |eps - x_0|^2: 1 + 1 / 4 for pixels of size 1 / 2, whatever t."""
    config = config_of("flow", parameterization="flow")
    network = Tiny()
    nn.init.zeros_(network.weight)
    pixels = torch.full((512, 1, 8, 8), 191, dtype=torch.uint8)
    losses = held_out_losses(network, pixels, config.schedule.build(), config.objective.build_loss(), 64, slice(None))
    assert float(losses.mean()) == pytest.approx(1.25, abs=0.05)


def test_autoguidance_keeps_x_t_on_a_path() -> None:
    """Image and noise that a loss is computed of are moved, and make up the same x_t."""
    config = config_of("flow", parameterization="flow", autoguidance={"scale": 2.0})
    schedule, guidance = config.schedule.build(), config.objective.build_autoguidance()
    assert guidance is not None
    guidance.follow(Tiny(), 1.0)
    own = Tiny()
    nn.init.constant_(own.weight, 0.2)
    draws = generator("cpu", 0, "test")
    x_0, eps = (torch.randn(4, 1, 4, 4, generator=draws) for _ in range(2))
    t = torch.tensor([10.0, 200.5, 600.0, 990.0], dtype=torch.float64)
    aim, noise = guidance.aim(own, x_0, t, eps, schedule)
    sigma = ((t + 1.0) / 1000).float().view(-1, 1, 1, 1)
    assert not torch.allclose(aim, x_0)
    torch.testing.assert_close((1 - sigma) * aim + sigma * noise, (1 - sigma) * x_0 + sigma * eps, rtol=1e-5, atol=1e-5)
