from __future__ import annotations

import pytest
import torch
from gaussian_data import COVARIANCE, DIM, MEAN, PROBES, affine, best_denoise
from levels_of_steps import levels
from noise_sources import no_noise
from torch import Tensor

from ddpm_cli.diffusion.editing.sdedit import sdedit_levels, sdedit_steps
from ddpm_cli.diffusion.flows import Flow, TrigFlow
from ddpm_cli.diffusion.levels import Schedule
from ddpm_cli.diffusion.samplers.ddim import ddim
from ddpm_cli.diffusion.sampling import sample
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.diffusion.timesteps import select_timesteps
from ddpm_cli.errors import ScheduleError

TIMESTEPS = select_timesteps(1000, 500, "trailing")


@pytest.fixture(params=["linear", "flow", "trig-flow"])
def schedule(request: pytest.FixtureRequest, linear: NoiseSchedule) -> Schedule:
    return {"linear": linear, "flow": Flow(), "trig-flow": TrigFlow()}[request.param]


def edit(schedule: Schedule, strength: float, x_0: Tensor, noise: Tensor) -> Tensor:
    draws = iter([noise])
    steps = sdedit_steps(best_denoise(), ddim(), levels(schedule, TIMESTEPS), strength, x_0, lambda: next(draws))
    return list(steps)[-1].x_s


def maps(schedule: Schedule, strength: float) -> tuple[Tensor, Tensor, Tensor]:
    """A, B and c of x_edited = A x_0 + B eps + c, which DDIM makes exact."""
    nothing = torch.zeros_like(PROBES)
    A, c = affine(edit(schedule, strength, PROBES, nothing))
    B, _ = affine(edit(schedule, strength, nothing, PROBES))
    return A, B, c


@pytest.mark.parametrize("strength", [0.2, 0.5, 0.8, 1.0])
def test_edits_of_data_are_data(strength: float, schedule: Schedule) -> None:
    """Noised data denoised is N(MEAN, COVARIANCE) again, whatever the strength."""
    A, B, c = maps(schedule, strength)
    assert (A @ MEAN + c - MEAN).abs().max() < 0.01
    covariance = A @ COVARIANCE @ A.T + B @ B.T
    assert (torch.linalg.eigvals(torch.linalg.solve(COVARIANCE, covariance)).real - 1).abs().max() < 0.03


def test_the_stronger_the_less_is_kept(schedule: Schedule) -> None:
    kept = [float(torch.linalg.matrix_norm(maps(schedule, strength)[0], 2)) for strength in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > 0.9
    assert kept[-1] < (0.05 if isinstance(schedule, NoiseSchedule) else 0.2)  # of straight paths a tenth is left there


def test_strength_0_returns_the_image_and_strength_1_forgets_it(linear: NoiseSchedule) -> None:
    noise = torch.randn_like(PROBES)
    assert torch.equal(edit(linear, 0.0, PROBES, noise), PROBES)
    A, _, _ = maps(linear, 1.0)
    assert torch.equal(A, torch.zeros(DIM, DIM, dtype=torch.float64))
    assert torch.equal(edit(linear, 1.0, PROBES, noise), sample(best_denoise(), ddim(), levels(linear, TIMESTEPS), noise, no_noise))


def test_the_strength_is_a_share_of_the_steps(linear: NoiseSchedule) -> None:
    path = levels(linear, [9, 6, 3, 0])
    assert sdedit_levels(path, 0.5) == path[2:]
    assert sdedit_levels(path, 0.1) == []
    assert sdedit_levels(path, 1) == path
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ScheduleError):
            sdedit_levels(path, wrong)
