"""Churn: fresh noise before each step of a solver, which turns it into a stochastic sampler."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ddpm_cli.diffusion.sampling import Noise
from ddpm_cli.diffusion.schedules import NoiseSchedule


@dataclass(frozen=True)
class Churn:
    """How much noise is added before each step (Karras et al. 2022, Alg. 2).

    Attributes:
        gamma: Share by which sigma rises; 0 adds no noise.
        s_min: Only from this sigma on.
        s_max: Only up to this sigma.
        s_noise: Standard deviation of the noise; a little above 1 makes up for details that the network loses.
    """

    gamma: float = 0.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0

    @classmethod
    def over(cls, steps: int, s_churn: float, s_min: float = 0.0, s_max: float = math.inf, s_noise: float = 1.0) -> Churn:
        """Spread s_churn over a number of steps: gamma = min(s_churn / steps, sqrt(2) - 1)."""
        return cls(min(s_churn / steps, math.sqrt(2.0) - 1.0), s_min, s_max, s_noise)


NO_CHURN = Churn()


def add_churn(schedule: NoiseSchedule, churn: Churn, x_t: Tensor, t: int, noise: Noise) -> tuple[Tensor, int]:
    """Go back to a noisier step by fresh noise (Karras et al. 2022, Alg. 2, lines 4 to 6).

    sigma = sqrt((1 - abar) / abar)    u = the step whose sigma is nearest to sigma_t * (1 + gamma)
    x_u = sqrt(abar_u / abar_t) * x_t + s_noise * sqrt(1 - abar_u / abar_t) * z

    With s_noise = 1 this is the forward process from t to u. Levels are those of the schedule, because a network knows no others;
    at the last of them nothing is added.

    Returns:
        x_u and u; x_t and t themselves where nothing is added, and then no noise is drawn.
    """
    sigmas = schedule.sigmas
    if churn.gamma == 0.0 or not churn.s_min <= sigmas[t] <= churn.s_max or not math.isfinite(sigmas[t]):
        return x_t, t
    with np.errstate(divide="ignore"):
        u = t + int(np.abs(np.log(sigmas[t:]) - math.log(sigmas[t] * (1.0 + churn.gamma))).argmin())
    if u == t:
        return x_t, t
    kept = schedule.alpha_bar(u) / schedule.alpha_bar(t)
    return kept**0.5 * x_t + churn.s_noise * (1.0 - kept) ** 0.5 * noise(), u
