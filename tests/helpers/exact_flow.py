"""The probability-flow ODE of the mixture of three Gaussians, solved exactly, and by how much solvers miss it.

The schedule is even in lambda from -6 to 3, so that 10, 20, 40 and 80 steps are exactly even. The ODE is solved to 1e-12 by an
eighth-order Runge-Kutta method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from levels_of_steps import levels
from noise_sources import no_noise
from plane_mixture import best_denoise, best_x_0
from scipy.integrate import solve_ivp
from torch import Tensor

from ddpm_cli.diffusion.levels import Schedule
from ddpm_cli.diffusion.sampling import Step
from ddpm_cli.diffusion.schedules import NoiseSchedule

LAST = 80
LAMBDA = np.linspace(3.0, -6.0, LAST + 1)
STEPS = (10, 20, 40, 80)


@cache
def even_schedule() -> NoiseSchedule:
    abar = 1.0 / (1.0 + np.exp(-2.0 * LAMBDA))
    return NoiseSchedule.from_betas(1.0 - abar / np.concatenate([[1.0], abar[:-1]]))


@cache
def start_and_exact_end() -> tuple[Tensor, Tensor]:
    schedule = even_schedule()
    x_T = torch.randn(32, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def slope(half_logsnr: float, flat: np.ndarray) -> np.ndarray:
        y = torch.from_numpy(flat).view(-1, 2)
        return (best_x_0(y, math.exp(-half_logsnr)) - y).flatten().numpy()

    y_T = (x_T / schedule.at(LAST).alpha).flatten().numpy()
    solution = solve_ivp(slope, (LAMBDA[-1], LAMBDA[0]), y_T, method="DOP853", rtol=1e-12, atol=1e-13)
    return x_T, torch.from_numpy(solution.y[:, -1]).view(-1, 2) * schedule.at(0).alpha


def error(step: Step, n: int, path: Schedule | None = None) -> float:
    """Of a solver that has n steps, one of STEPS, against the exact end; on another path at the levels of the same ratios."""
    x_t, exact = start_and_exact_end()
    denoise, visited = best_denoise(), levels(even_schedule(), range(LAST, -1, -LAST // n))
    taken = visited if path is None else [path.level_of_ratio(level.ratio) for level in visited]
    x_t = x_t * (taken[0].alpha / visited[0].alpha)
    for t, s in pairwise(taken):
        x_t = step(denoise, x_t, t, s, no_noise).x_s
    return float((x_t * (visited[-1].alpha / taken[-1].alpha) - exact).square().mean().sqrt())


def order_of(errors: Sequence[float]) -> float:
    """With which power of the number of steps the errors of STEPS fall."""
    return -float(np.polyfit(np.log(STEPS), np.log(errors), 1)[0])
