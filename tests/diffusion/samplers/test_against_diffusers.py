"""Trajectories of diffusers' schedulers from the same noise, the same steps and the same toy network.

Their tables are float32, so trajectories agree to 1e-4 and not further. Two differences are theirs to have and are kept out of
these comparisons: DDIMScheduler takes `t - T // n` as the previous step, which is wrong unless the steps lie exactly T // n apart
("linspace", or n that does not divide T), so it is compared on "trailing" with n that divides T; DDPMScheduler, fixed_large, adds
noise at the last step if that is not t = 0, where we add none, so that variance is compared on lists that end in 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from ddpm_cli.diffusion.parameterization import Parameterization, make_denoise
from ddpm_cli.diffusion.samplers.ddim import ddim
from ddpm_cli.diffusion.samplers.ddpm import ddpm
from ddpm_cli.diffusion.samplers.dpm_solver import dpm_solver
from ddpm_cli.diffusion.sampling import Step, sample_steps
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.diffusion.timesteps import Spacing, select_timesteps

SHAPE = (3, 1, 6, 6)
THEIR_NAME = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
CONFIG = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


def network(x_t: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(1.3 * x_t + t.view(-1, 1, 1, 1) / 1000)


def normal(seed: int) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(SHAPE, generator=generator)


def our_trajectory(schedule: NoiseSchedule, step: Step, steps: list[int], kind: Parameterization, clip: bool) -> list[Tensor]:
    denoise = make_denoise(network, schedule, kind, clip=clip)
    return [output.x_s for output in sample_steps(denoise, step, steps, normal(0)(), normal(1))]


def their_trajectory(scheduler: Any, **options: Any) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    x_t, trajectory = normal(0)(), []
    for t in scheduler.timesteps:
        x_t = scheduler.step(network(x_t, t.expand(3)), t, x_t, generator=generator, **options).prev_sample
        trajectory.append(x_t)
    return trajectory


def assert_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [10, 20, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize(("kind", "clip"), [("eps", True), ("x0", False), ("v", True)])
def test_ddpm_fixed_small(spacing: Spacing, n: int, kind: Parameterization, clip: bool, linear: NoiseSchedule) -> None:
    steps = select_timesteps(1000, n, spacing)
    scheduler = DDPMScheduler(**CONFIG, variance_type="fixed_small", clip_sample=clip, prediction_type=THEIR_NAME[kind])
    scheduler.set_timesteps(timesteps=steps)
    assert_same(our_trajectory(linear, ddpm(linear), steps, kind, clip), their_trajectory(scheduler))


@pytest.mark.parametrize("n", [10, 20, 50])
@pytest.mark.parametrize("spacing", ["leading", "linspace"])
def test_ddpm_fixed_large(spacing: Spacing, n: int, linear: NoiseSchedule) -> None:
    steps = select_timesteps(1000, n, spacing)
    scheduler = DDPMScheduler(**CONFIG, variance_type="fixed_large", clip_sample=True)
    scheduler.set_timesteps(timesteps=steps)
    assert_same(our_trajectory(linear, ddpm(linear, variance="fixed-large"), steps, "eps", True), their_trajectory(scheduler))


@pytest.mark.parametrize("n", [10, 20, 50])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("kind", "clip"), [("eps", True), ("x0", False), ("v", True)])
def test_ddim(n: int, eta: float, kind: Parameterization, clip: bool, linear: NoiseSchedule) -> None:
    scheduler = DDIMScheduler(**CONFIG, clip_sample=clip, timestep_spacing="trailing", prediction_type=THEIR_NAME[kind])
    scheduler.set_timesteps(n)
    steps = select_timesteps(1000, n, "trailing")
    assert scheduler.timesteps.tolist() == steps
    theirs = their_trajectory(scheduler, eta=eta, use_clipped_model_output=True)
    # Their last step draws noise with weight 0; ours draws none, which changes nothing.
    assert_same(our_trajectory(linear, ddim(linear, eta=eta), steps, kind, clip), theirs)


@pytest.mark.parametrize("n", [10, 20, 50])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("kind", ["x0", "v"])
def test_dpm_solver(n: int, order: Any, spacing: Spacing, kind: Parameterization, linear: NoiseSchedule) -> None:
    scheduler = DPMSolverMultistepScheduler(
        **CONFIG, solver_order=order, algorithm_type="dpmsolver++", final_sigmas_type="zero", prediction_type=THEIR_NAME[kind]
    )
    steps = select_timesteps(1000, n, spacing)
    scheduler.set_timesteps(timesteps=steps)
    assert scheduler.timesteps.tolist() == steps
    assert_same(our_trajectory(linear, dpm_solver(linear, order=order), steps, kind, False), their_trajectory(scheduler))
