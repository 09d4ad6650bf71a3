"""Trajectories of flow matching against those of diffusers' schedulers, from the same velocity.

Their sigmas are ours in float32. A list of sigmas that is given to `set_timesteps`, as the pipelines of Stable Diffusion 3 do, is
shifted once. Without one they space from the largest to the smallest sigma of their table, which is shifted already, and shift
again: with a shift other than 1 their last step is then nearer to noise than the grid's first.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from noise_sources import no_noise
from torch import Tensor

from ddpm_cli.diffusion.denoise import make_denoise, predictor
from ddpm_cli.diffusion.flows import Flow
from ddpm_cli.diffusion.levels import Level
from ddpm_cli.diffusion.prediction import FlowVelocity
from ddpm_cli.diffusion.samplers.ddim import ddim
from ddpm_cli.diffusion.samplers.euler import euler
from ddpm_cli.diffusion.samplers.heun import heun
from ddpm_cli.diffusion.sampling import Step, sample_steps
from ddpm_cli.diffusion.timesteps import even_levels

X_T = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
N = 7
both = pytest.mark.parametrize(
    ("kind", "make", "evaluations"),
    [(FlowMatchEulerDiscreteScheduler, euler, 1), (FlowMatchHeunDiscreteScheduler, partial(heun, along="path"), 2)],
)


def velocity(x_t: Tensor, t: Tensor) -> Tensor:
    return torch.sin(2 * x_t) - 0.5 * x_t.roll(1, -1) + 0.001 * t.view(-1, 1, 1, 1)


def ours(step: Step, levels: list[Level], path: Flow) -> list[Tensor]:
    denoise = make_denoise(predictor(velocity, path, FlowVelocity()), path, threshold=None)
    return [output.x_s for output in sample_steps(denoise, step, levels, X_T, no_noise)]


def theirs(scheduler: Any, evaluations: int) -> list[Tensor]:
    """What each step made; of Heun's method after its correction."""
    x_t, made = X_T, []
    for t in scheduler.timesteps:
        x_t = scheduler.step(velocity(x_t, t.expand(len(x_t))), t, x_t).prev_sample
        made.append(x_t)
    return made if evaluations == 1 else [*made[1::2], made[-1]]


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("make", [euler, ddim])
def test_euler_from_trailing_steps_is_theirs(make: Any, shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(1000, shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / N, N).tolist())
    path = Flow(1000, shift)
    found = ours(make(), even_levels(path, N, "trailing"), path)
    for mine, other in zip(found, theirs(scheduler, 1), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "make", "evaluations"),
    [(FlowMatchEulerDiscreteScheduler, euler, 1), (FlowMatchHeunDiscreteScheduler, lambda: heun(along="path"), 2)],
)
def test_their_own_spacing_is_linspace(kind: Any, make: Any, evaluations: int) -> None:
    scheduler = kind(1000)
    scheduler.set_timesteps(N)
    path = Flow()
    found = ours(make(), even_levels(path, N, "linspace"), path)
    for mine, other in zip(found, theirs(scheduler, evaluations), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "make", "evaluations"),
    [(FlowMatchEulerDiscreteScheduler, euler, 1), (FlowMatchHeunDiscreteScheduler, lambda: heun(along="path"), 2)],
)
def test_from_their_sigmas_the_way_is_theirs_with_a_shift_too(kind: Any, make: Any, evaluations: int) -> None:
    scheduler, path = kind(1000, shift=3.0), Flow(1000, 3.0)
    scheduler.set_timesteps(N)
    sigmas = [float(sigma) for sigma in scheduler.sigmas[:-1].unique()][::-1]
    levels = [path.level_of_ratio(sigma / (1 - sigma) if sigma < 1 else float("inf")) for sigma in sigmas]
    for mine, other in zip(ours(make(), levels, path), theirs(scheduler, evaluations), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)
    # The first of the grid is 0.002994 = shifted(0.001); theirs is that of shifted(0.002994).
    least = path.at(0).sigma
    assert sigmas[-1] == pytest.approx(3 * least / (1 + 2 * least), rel=1e-4)
    assert all(more > less for more, less in pairwise(sigmas))
