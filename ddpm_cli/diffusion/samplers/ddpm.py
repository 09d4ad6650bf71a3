"""Ancestral sampling."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ddpm_cli.diffusion.parameterization import Denoise
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput
from ddpm_cli.diffusion.schedules import NoiseSchedule

Variance = Literal["fixed-small", "fixed-large"]


def ddpm(schedule: NoiseSchedule, *, variance: Variance = "fixed-small") -> Step:
    """Ancestral sampler (DDPM, Alg. 2 with Eq. 7), for any list of steps (Nichol & Dhariwal 2021, Eq. 19).

    alpha = abar_t / abar_s    beta = 1 - alpha
    mean = sqrt(abar_s) * beta / (1 - abar_t) * x0_hat + sqrt(alpha) * (1 - abar_s) / (1 - abar_t) * x_t
    x_s = mean + sqrt(variance) * z
    fixed-small: variance = beta * (1 - abar_s) / (1 - abar_t)    fixed-large: variance = beta    (DDPM, Sec. 3.2)

    Where s = t - 1, alpha and beta are the schedule's own. Either variance adds no noise at the last step (s = -1).

    Args:
        schedule: The noise schedule.
        variance: "fixed-small" or "fixed-large".
    Returns:
        The step function.
    """

    def step(denoise: Denoise, x_t: Tensor, t: int, s: int, noise: Noise) -> StepOutput:
        abar_t, abar_s = schedule.alpha_bar(t), schedule.alpha_bar(s)
        alpha = abar_t / abar_s
        beta = 1.0 - alpha
        x0_hat = denoise(x_t, t).x0_hat
        coef_x_0 = abar_s**0.5 * beta / (1.0 - abar_t)
        coef_x_t = alpha**0.5 * (1.0 - abar_s) / (1.0 - abar_t)
        mean = coef_x_0 * x0_hat + coef_x_t * x_t
        if s == -1:
            return StepOutput(mean, x0_hat)
        std = (beta if variance == "fixed-large" else beta * (1.0 - abar_s) / (1.0 - abar_t)) ** 0.5
        return StepOutput(mean + std * noise(), x0_hat)

    return step
