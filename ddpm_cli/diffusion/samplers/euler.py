"""Euler's method."""

from __future__ import annotations

from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.samplers.churn import NO_CHURN, Churn, add_churn
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput
from ddpm_cli.diffusion.schedules import NoiseSchedule


def euler(schedule: NoiseSchedule, *, churn: Churn = NO_CHURN) -> Step:
    """Euler's method on the probability-flow ODE in sigma (Karras et al. 2022, Alg. 2, lines 4 to 8).

    sigma = sqrt((1 - abar) / abar)    y = x / sqrt(abar)    dy / dsigma = (y - x0_hat) / sigma = eps_hat
    y_s = y_t + (sigma_s - sigma_t) * eps_hat

    In terms of x that is x_s = sqrt(abar_s) * x0_hat + sqrt(1 - abar_s) * eps_hat: without churn, DDIM with eta = 0.

    Args:
        schedule: The noise schedule.
        churn: Noise that is added before each step; none makes it deterministic.
    Returns:
        The step function.
    """

    def step(denoise: Denoise, x_t: Tensor, t: int, s: int, noise: Noise) -> StepOutput:
        x_u, u = add_churn(schedule, churn, x_t, t, noise)
        estimate = denoise(x_u, u)
        abar_s = schedule.alpha_bar(s)
        return StepOutput(abar_s**0.5 * estimate.x0_hat + (1.0 - abar_s) ** 0.5 * estimate.eps_hat, estimate.x0_hat)

    return step
