"""Add fresh noise before each step of a solver, which turns it into a stochastic sampler."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ddpm_cli.diffusion.levels import Level, added_noise
from ddpm_cli.diffusion.sampling import Noise


@dataclass(frozen=True)
class Churn:
    """Say how much noise is added before each step (Karras et al. 2022, Alg. 2).

    Attributes:
        level_of_ratio: The level with a ratio sigma / alpha, or the nearest that the network knows; a schedule's method.
        gamma: Share by which the ratio rises; 0 adds no noise.
        s_min: Only from this ratio on.
        s_max: Only up to this ratio.
        s_noise: Standard deviation of the noise; a little above 1 makes up for details that the network loses.
    """

    level_of_ratio: Callable[[float], Level]
    gamma: float = 0.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0


def churn_share(steps: int, s_churn: float) -> float:
    """Spread s_churn over a number of steps: gamma = min(s_churn / steps, sqrt(2) - 1) (Karras et al. 2022, Alg. 2, line 3)."""
    return min(s_churn / steps, math.sqrt(2.0) - 1.0)


def add_churn(churn: Churn | None, x_t: Tensor, t: Level, noise: Noise) -> tuple[Tensor, Level]:
    """Go back to a noisier level by fresh noise (Karras et al. 2022, Alg. 2, lines 4 to 6).

    u = the level with sigma_u / alpha_u = (1 + gamma) * sigma_t / alpha_t
    x_u = alpha_u / alpha_t * x_t + s_noise * sqrt(added_noise(t, u)) * z

    With s_noise = 1 this is the forward process from t to u. No level is noisier than the schedule's last: there nothing is added.

    Returns:
        x_u and u; x_t and t themselves where nothing is added, and then no noise is drawn.
    """
    if churn is None or churn.gamma == 0.0 or not churn.s_min <= t.ratio <= churn.s_max or math.isinf(t.ratio):
        return x_t, t
    u = churn.level_of_ratio(t.ratio * (1.0 + churn.gamma))
    if u.t <= t.t:
        return x_t, t
    return (u.signal / t.signal) ** 0.5 * x_t + churn.s_noise * added_noise(t, u) ** 0.5 * noise(), u
