"""Denoising diffusion implicit models."""

from __future__ import annotations

from torch import Tensor

from ddpm_cli.diffusion.parameterization import Denoise
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput
from ddpm_cli.diffusion.schedules import NoiseSchedule


def ddim(schedule: NoiseSchedule, *, eta: float = 0.0) -> Step:
    """DDIM sampler for any list of steps (Song et al. 2021, Eq. 12 and 16).

    sigma = eta * sqrt((1 - abar_s) / (1 - abar_t)) * sqrt(1 - abar_t / abar_s)
    x_s = sqrt(abar_s) * x0_hat + sqrt(1 - abar_s - sigma**2) * eps_hat + sigma * z

    Args:
        schedule: The noise schedule.
        eta: 0 is deterministic; 1 has the variance of the DDPM posterior and, for a given x0_hat, the same step.
    Returns:
        The step function.
    """

    def step(denoise: Denoise, x_t: Tensor, t: int, s: int, noise: Noise) -> StepOutput:
        abar_t, abar_s = schedule.alpha_bar(t), schedule.alpha_bar(s)
        x0_hat, eps_hat = denoise(x_t, t)
        sigma = eta * ((1.0 - abar_s) / (1.0 - abar_t)) ** 0.5 * (1.0 - abar_t / abar_s) ** 0.5
        # The difference is 0 up to rounding where sigma takes all of the variance.
        direction = max(1.0 - abar_s - sigma**2, 0.0) ** 0.5
        x_s = abar_s**0.5 * x0_hat + direction * eps_hat
        return StepOutput(x_s + sigma * noise() if sigma > 0.0 else x_s, x0_hat)

    return step
