"""Sample by Heun's method, of second order with two network evaluations per step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.levels import CLEAN, Level
from ddpm_cli.diffusion.samplers.churn import Churn, add_churn
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput

MAX_SIGMA = 200.0


def heun(*, churn: Churn | None = None, along: Literal["sigma", "path"] = "sigma") -> Step:
    """Sample by Heun's method on the probability-flow ODE in sigma (Karras et al. 2022, Alg. 2).

    ratio = sigma / alpha    y = x / alpha    dy / dratio = (y - x0_hat) / ratio = eps_hat
    Euler:   y_s' = y_t + (ratio_s - ratio_t) * eps_hat(y_t)
    correct: y_s = y_t + (ratio_s - ratio_t) * (eps_hat(y_t) + eps_hat(y_s')) / 2
                 = y_s' + (ratio_t / ratio_s - 1) / 2 * (x0_hat(y_s') - x0_hat(y_t))

    n steps take 2 * n - 1 network evaluations: the last, to CLEAN, is Euler's. So are steps from a ratio above 200, as the cosine
    schedule and zero terminal SNR have: x_t is noise there but for half a per cent, Euler's step is nearly exact, and the
    correction would multiply the rounding of x0_hat by ratio_t / ratio_s.

    Along the path itself, dx = x0_hat * dalpha + eps_hat * dsigma, and the correction is the mean of both ends too:
    x_s = x_s' + (alpha_s - alpha_t) / 2 * (x0_hat(x_s') - x0_hat(x_t)) + (sigma_s - sigma_t) / 2 * (eps_hat(x_s') - eps_hat(x_t))
    Of flow matching that is Heun's method in t. It is finite where no signal is left.

    Args:
        churn: Noise that is added before each step; none makes it deterministic.
        along: "sigma", the ratio sigma / alpha of Karras et al.; or "path".
    Returns:
        The step function.
    """

    def step(denoise: Denoise, x_t: Tensor, t: Level, s: Level, noise: Noise) -> StepOutput:
        x_u, u = add_churn(churn, x_t, t, noise)
        estimate = denoise(x_u, u)
        x_s = s.alpha * estimate.x0_hat + s.sigma * estimate.eps_hat
        if s == CLEAN or (along == "sigma" and u.ratio > MAX_SIGMA):
            return StepOutput(x_s, estimate.x0_hat)
        if along == "path":
            ahead = denoise(x_s, s)
            of_image = 0.5 * (s.alpha - u.alpha) * (ahead.x0_hat - estimate.x0_hat)
            of_noise = 0.5 * (s.sigma - u.sigma) * (ahead.eps_hat - estimate.eps_hat)
            return StepOutput(x_s + of_image + of_noise, estimate.x0_hat)
        weight = s.alpha * 0.5 * (u.ratio / s.ratio - 1.0)
        return StepOutput(x_s + weight * (denoise(x_s, s).x0_hat - estimate.x0_hat), estimate.x0_hat)

    return step


def errors_on_gaussian_data(sigmas: Sequence[float], std: float = 0.5) -> tuple[float, float]:
    """Tell by how much Euler's and Heun's method miss the standard deviation of Gaussian data, whose best denoiser is known.

    x0_hat = std**2 / (std**2 + sigma**2) * y makes each step a multiplication of y, and the exact ODE one by
    sqrt(std**2 + sigma_s**2) / sqrt(std**2 + sigma_t**2). Where Heun's error is the larger, a step is too long for its correction.

    Args:
        sigmas: Of the steps that a sampler visits, descending; the first may be infinite.
        std: Of the data; 0.5 is about that of images in [-1, 1].
    Returns:
        Relative errors of Euler and of Heun, at least 0.
    """

    def slope(sigma: float) -> float:
        return sigma / (std**2 + sigma**2)

    euler = heun = 1.0
    path = [sigma for sigma in sigmas if np.isfinite(sigma)]  # from an infinite sigma Euler's step is exact
    for above, below in pairwise(path):
        width, ahead = below - above, 1.0 + (below - above) * slope(above)
        euler *= ahead
        heun *= ahead if above > MAX_SIGMA else 1.0 + 0.5 * width * (slope(above) + ahead * slope(below))
    exact = std / (std**2 + path[0] ** 2) ** 0.5
    last = std**2 / (std**2 + path[-1] ** 2)
    return abs(euler * last / exact - 1.0), abs(heun * last / exact - 1.0)
