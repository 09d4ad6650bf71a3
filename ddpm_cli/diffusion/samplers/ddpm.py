"""Sample ancestrally."""

from __future__ import annotations

import math
from typing import Literal, assert_never

import torch
from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.levels import CLEAN, Level, added_noise
from ddpm_cli.diffusion.prediction import Denoised
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput
from ddpm_cli.diffusion.variances import ModelVariance
from ddpm_cli.errors import RequestError

Variance = Literal["auto", ModelVariance]


def ddpm(*, variance: Variance = "auto") -> Step:
    """Sample ancestrally (DDPM, Alg. 2 with Eq. 7), along any list of levels (Nichol & Dhariwal 2021, Eq. 19).

    alpha = abar_t / abar_s    beta = added_noise(s, t), which is 1 - alpha where variance is preserved
    mean = alpha_s * beta / sigma_t**2 * x0_hat + sqrt(alpha) * sigma_s**2 / sigma_t**2 * x_t
    x_s = mean + sqrt(variance) * z
    fixed-small: variance = beta * sigma_s**2 / sigma_t**2    fixed-large: variance = beta    (DDPM, Sec. 3.2)
    learned-range: log(variance) = v * log(fixed-large) + (1 - v) * log(fixed-small), v the network's variance_fraction for each
    pixel (Nichol & Dhariwal 2021, Eq. 15)
    auto: learned-range if the network predicts its variance, else fixed-small

    Where s is the step before t, alpha and beta are the schedule's own. fixed-large is exact for standard normal data; if variance
    is not preserved, it is beta * (alpha_s**2 + sigma_s**2) / (alpha_t**2 + sigma_t**2). No variance adds noise in the last step,
    to CLEAN.

    Args:
        variance: "auto", "fixed-small", "fixed-large" or "learned-range".
    Returns:
        The step function; for "learned-range" it raises RequestError if the network does not predict its variance.
    """

    def step(denoise: Denoise, x_t: Tensor, t: Level, s: Level, noise: Noise) -> StepOutput:
        alpha = t.signal / s.signal
        beta = added_noise(s, t)
        estimate = denoise(x_t, t)
        coef_x_0 = s.alpha * beta / t.noise
        coef_x_t = alpha**0.5 * s.noise / t.noise
        mean = coef_x_0 * estimate.x0_hat + coef_x_t * x_t
        if s == CLEAN:
            return StepOutput(mean, estimate.x0_hat)
        std = _std(variance, beta * (s.power / t.power), beta * s.noise / t.noise, estimate)
        return StepOutput(mean + std * noise(), estimate.x0_hat)

    return step


def _std(variance: Variance, large: float, small: float, estimate: Denoised) -> float | Tensor:
    if variance == "auto":
        variance = "fixed-small" if estimate.variance_fraction is None else "learned-range"
    match variance:
        case "fixed-small":
            return math.sqrt(small)
        case "fixed-large":
            return math.sqrt(large)
        case "learned-range":
            fraction = estimate.variance_fraction
            if fraction is None:
                raise RequestError("This network does not predict its variance.", 'Sample with variance "fixed-small".')
            return math.sqrt(small) * torch.exp(0.5 * math.log(large / small) * fraction)
    assert_never(variance)
