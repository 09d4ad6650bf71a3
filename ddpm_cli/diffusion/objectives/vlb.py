"""Compute the terms of the variational bound on the likelihood (DDPM, Eq. 5), in bits per dimension; t counts from 0.

-log p(x_0) <= L_T + sum over t = 1 ... T-1 of L_t + L_0
L_T = KL(q(x_{T-1} | x_0) || N(0, I))                   the prior
L_t = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t))     one for each step
L_0 = -log p(pixels | x_t at t = 0)                     the decoder, a discretized Gaussian
"""

from __future__ import annotations

import math
from typing import assert_never

import torch
from torch import Tensor

from ddpm_cli.diffusion.forward import at_least_float32, extract, q_posterior
from ddpm_cli.diffusion.prediction import Denoised
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.diffusion.variances import ModelVariance
from ddpm_cli.errors import ConfigError

LEVELS = 256
"""Values that a pixel has in [-1, 1], unless the data are of another depth."""


def gaussian_kl(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """Compute KL(N(mean, variance) || N(other_mean, other_variance)) of each element, in nats.

    ((mean - other_mean)**2 / other_variance + variance / other_variance - 1 - log(variance / other_variance)) / 2

    Args:
        mean: [B, C, H, W]; like the others it may be of any shape that broadcasts.
        log_variance: Log of the first variance.
        other_mean: Mean of the second.
        other_log_variance: Log of the second variance.
    Returns:
        Nats, at least 0 up to rounding.
    """
    log_ratio = log_variance - other_log_variance
    distance = (mean - other_mean).square() * torch.exp(-other_log_variance)
    # expm1: close to equal variances the difference of exp and 1 would round away.
    return 0.5 * (distance + torch.expm1(log_ratio) - log_ratio)


def half_bin(levels: int) -> float:
    """Give half the distance between neighbouring values of a pixel, of which so many lie in [-1, 1]: 1/255 of 256."""
    return 1.0 / (levels - 1)


def discretized_gaussian_log_likelihood(x_0: Tensor, mean: Tensor, log_variance: Tensor, levels: int = LEVELS) -> Tensor:
    """Give the log probability of pixels under a Gaussian that is integrated over each pixel's bin (DDPM, Eq. 13).

    log(Phi((x_0 + h - mean) / std) - Phi((x_0 - h - mean) / std)), h = 1 / (levels - 1), which is the paper's 1/255 for 256;
    the bins of -1 and 1 reach to infinity.

    Exact in both tails, however far the mean is from the pixel.

    Args:
        x_0: Pixels on the grid of `levels` values in [-1, 1], [B, C, H, W].
        mean: Shaped like x_0.
        log_variance: Log of the variance; broadcasts to x_0.
        levels: Values that a pixel has, at least 2.
    Returns:
        Log probabilities in nats, shaped like x_0; float64 if x_0 is, else float32.
    """
    x_0 = at_least_float32(x_0)
    inverse_std = torch.exp(-0.5 * log_variance)
    half = half_bin(levels)
    if levels <= LEVELS:
        above, below = (x_0 + half - mean) * inverse_std, (x_0 - half - mean) * inverse_std
    else:  # a narrow bin would lose digits beside numbers near 1; the difference of near ones is exact
        distance = x_0 - mean
        above, below = (distance + half) * inverse_std, (distance - half) * inverse_std
    lowest, highest = x_0 < -1.0 + half, x_0 > 1.0 - half
    # Mirrored into the lower tail, where the logarithms of both ends keep their digits.
    mirror = above + below > 0
    upper, lower = torch.where(mirror, -below, above), torch.where(mirror, -above, below)
    log_upper, log_lower = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
    # At least the smallest gap, so that bins too narrow for the dtype give no log(0) and no 0 / 0 in the gradient.
    gap = (log_upper - log_lower).clamp_min(torch.finfo(x_0.dtype).tiny)
    between = log_upper + torch.log(-torch.expm1(-gap))
    outer = torch.where(lowest, torch.special.log_ndtr(above), torch.special.log_ndtr(-below))
    return torch.where(lowest | highest, outer, between)


def model_log_variance(variance: ModelVariance, estimate: Denoised, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Give the log variance of p(x_{t-1} | x_t).

    fixed-small:   log(beta-tilde)                                                          (DDPM, Sec. 3.2)
    fixed-large:   log(beta)                                                                (DDPM, Sec. 3.2)
    learned-range: f * log(beta) + (1 - f) * log(beta-tilde), f = variance_fraction         (Nichol & Dhariwal 2021, Eq. 15)

    At t = 0 beta-tilde is 0; its value at t = 1 stands in, here and for fixed-large, as it gives the better decoder.

    Args:
        variance: One of the three.
        estimate: Of the denoiser.
        t: Steps in [0, T), int64, [B].
        schedule: The noise schedule.
    Returns:
        Log variance; [B, 1, 1, 1] if fixed, else [B, C, H, W].
    Raises:
        ConfigError: If the variance is learned-range and the network did not learn one.
    """
    like = estimate.x0_hat
    small = extract(schedule, "posterior_log_variance_clipped", t, like)
    large = extract(schedule, "betas", t, like).log()
    match variance:
        case "fixed-small":
            return small
        case "fixed-large":
            return torch.where(t.view_as(large) == 0, small, large)
        case "learned-range":
            if estimate.variance_fraction is None:
                raise ConfigError(
                    "This model did not learn its variance.",
                    "Use a fixed one, or train with objective.variance = learned-range.",
                )
            return small + estimate.variance_fraction * (large - small)
    assert_never(variance)


def vlb_term(
    estimate: Denoised,
    x_0: Tensor,
    x_t: Tensor,
    t: Tensor,
    schedule: NoiseSchedule,
    variance: ModelVariance,
    levels: int = LEVELS,
) -> Tensor:
    """Compute L_t for t > 0, the decoder's L_0 for t = 0 (DDPM, Eq. 5).

    Args:
        estimate: Of the denoiser at x_t.
        x_0: Images on the grid of `levels` values in [-1, 1], [B, C, H, W].
        x_t: The same images at step t.
        t: Steps in [0, T), int64, [B].
        schedule: The noise schedule.
        variance: Of p(x_{t-1} | x_t).
        levels: Values that a pixel has.
    Returns:
        Bits per dimension, [B].
    Raises:
        ConfigError: See model_log_variance.
    """
    mean, _, log_variance = q_posterior(x_0, x_t, t, schedule)
    model_mean, _, _ = q_posterior(estimate.x0_hat, x_t, t, schedule)
    model_log = model_log_variance(variance, estimate, t, schedule)
    kl = gaussian_kl(mean, log_variance, model_mean, model_log)
    decoder = -discretized_gaussian_log_likelihood(x_0, model_mean, model_log, levels)
    return bits(torch.where(t.view(-1, *[1] * (x_0.ndim - 1)) == 0, decoder, kl))


def prior_term(x_0: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Compute L_T = KL(q(x_T | x_0) || N(0, I)) (DDPM, Eq. 5); no network has a part in it.

    Args:
        x_0: Images in [-1, 1], [B, C, H, W].
        schedule: The noise schedule.
    Returns:
        Bits per dimension, [B].
    """
    abar = float(schedule.alphas_cumprod[-1])
    zero = torch.zeros((), dtype=x_0.dtype, device=x_0.device)
    return bits(gaussian_kl(abar**0.5 * x_0, torch.full_like(zero, math.log1p(-abar)), zero, zero))


def bits(nats: Tensor) -> Tensor:
    """Turn nats of each element, [B, C, H, W], into bits per dimension of each image, [B]."""
    return nats.flatten(1).mean(1) / math.log(2.0)
