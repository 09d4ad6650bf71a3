"""Sample by Euler's method."""

from __future__ import annotations

from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.levels import Level
from ddpm_cli.diffusion.samplers.churn import Churn, add_churn
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput


def euler(*, churn: Churn | None = None) -> Step:
    """Sample by Euler's method on the probability-flow ODE in sigma (Karras et al. 2022, Alg. 2, lines 4 to 8).

    ratio = sigma / alpha    y = x / alpha    dy / dratio = (y - x0_hat) / ratio = eps_hat
    y_s = y_t + (ratio_s - ratio_t) * eps_hat

    In terms of x that is x_s = alpha_s * x0_hat + sigma_s * eps_hat: without churn, DDIM with eta = 0.

    Args:
        churn: Noise that is added before each step; none makes it deterministic.
    Returns:
        The step function.
    """

    def step(denoise: Denoise, x_t: Tensor, t: Level, s: Level, noise: Noise) -> StepOutput:
        estimate = denoise(*add_churn(churn, x_t, t, noise))
        return StepOutput(s.alpha * estimate.x0_hat + s.sigma * estimate.eps_hat, estimate.x0_hat)

    return step
