"""Estimate the likelihood of images under the probability-flow ODE (Song et al. 2021, Score-Based Generative Modeling, Sec. 4.3).

The ODE turns noise into images without any randomness, so that the density of an image follows from the change of variables. In
the angle phi of x_phi = cos(phi) * x_0 + sin(phi) * eps it is free of singularities, up to and with zero terminal SNR:

    d x / d phi = v(x, phi)                                         (Salimans & Ho 2022, App. D)
    log p(x_data) = log N(x_T; 0, I) + integral of div v d phi + D * log cos(phi_0)

Every process has such an angle, tan(phi) = sigma / alpha, and x_phi is its x_t divided by sqrt(alpha**2 + sigma**2). So has flow
matching, x_t = (1 - t) * x_0 + t * eps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ddpm_cli.diffusion.denoise import Predict
from ddpm_cli.diffusion.forward import Levels
from ddpm_cli.diffusion.levels import Schedule
from ddpm_cli.diffusion.objectives.vlb import LEVELS
from ddpm_cli.diffusion.prediction import v_from_x_0_eps
from ddpm_cli.diffusion.timesteps import MAX_SIGMA, noisiest_spaced
from ddpm_cli.errors import ScheduleError

Field = Callable[[Tensor], Tensor]
"""A vector field: [B, C, H, W] -> [B, C, H, W], each image by itself."""

Divergence = Callable[[Field, Tensor], tuple[Tensor, Tensor]]
"""Takes a field and x [B, C, H, W]; returns the field at x and its divergence for each image, [B]."""


def hutchinson_divergence(probe: Tensor) -> Divergence:
    """Estimate the divergence without bias by one backward pass (Hutchinson 1990; Song et al. 2021, Eq. 40).

    div f = E[probe^T (d f / d x) probe] for a probe whose elements are independent with mean 0 and variance 1

    The same probe serves all along the path, as in Grathwohl et al. 2019 (FFJORD).

    Args:
        probe: For example random signs, [B, C, H, W].
    """

    def divergence(field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            value = field(x)
            (product,) = torch.autograd.grad((value * probe).sum(), x)
        return value.detach(), (product * probe).flatten(1).sum(1)

    return divergence


def ode_log_density(
    predict: Predict,
    x: Tensor,
    schedule: Schedule,
    timesteps: Sequence[int],
    divergence: Divergence,
    *,
    labels: Tensor | None = None,
) -> Tensor:
    """Compute the log density of the model's ODE at x, by Heun's method from data to noise (Song et al. 2021, Eq. 39).

    The path starts at the schedule's first noise level, whose noise is taken for none (as with epsilon in Song et al., App. D.2).

    Args:
        predict: The network's estimates, not clipped.
        x: Continuous images, [B, C, H, W].
        schedule: The noise schedule.
        timesteps: Steps in [0, T), strictly ascending from 0 to T - 1, see logsnr_grid. Each interval takes two evaluations.
        divergence: Exact, or an estimate of it.
        labels: The class of each image, int64, [B], or None.
    Returns:
        Log density in nats, float64, [B].
    Raises:
        ScheduleError: If timesteps do not ascend from 0 to T - 1.
    """
    if list(timesteps[:1]) != [0] or timesteps[-1] != schedule.timesteps - 1 or any(s <= t for t, s in pairwise(timesteps)):
        raise ScheduleError("The steps of the likelihood must ascend from 0 to T - 1.")

    def velocity(t: int) -> Field:
        at = Levels.of_steps(schedule, torch.full((len(x),), t, dtype=torch.int64, device=x.device), x)
        root = at.power**0.5

        def field(x_phi: Tensor) -> Tensor:
            estimate = predict(root * x_phi, at, labels)
            return v_from_x_0_eps(estimate.x0_hat, estimate.eps_hat, at) / root

        return field

    def angle(t: int) -> float:
        level = schedule.at(t)
        return math.atan2(level.sigma, level.alpha)

    first, dimensions = schedule.at(0), x[0].numel()
    change = torch.full((len(x),), 0.5 * dimensions * math.log(first.signal / first.power), dtype=torch.float64)
    x_t = first.alpha / first.power**0.5 * x
    for t, s in pairwise(timesteps):
        step = angle(s) - angle(t)
        slope, growth = divergence(velocity(t), x_t)
        slope_ahead, growth_ahead = divergence(velocity(s), x_t + step * slope)
        x_t = x_t + 0.5 * step * (slope + slope_ahead)
        change += 0.5 * step * (growth + growth_ahead).double().cpu()
    noise = x_t.double().cpu().flatten(1)
    prior: Tensor = -0.5 * (noise.square().sum(1) + dimensions * math.log(2.0 * math.pi))
    return prior + change


def logsnr_grid(schedule: Schedule, intervals: int) -> list[int]:
    """Space steps from 0 to T - 1 about evenly in log SNR, as in logsnr_levels; where that repeats a step, take free ones.

    Args:
        schedule: The noise schedule.
        intervals: How many, in [1, T - 1].
    Raises:
        ScheduleError: If there are not as many steps.
    """
    last = schedule.timesteps - 1
    if not 1 <= intervals <= last:
        raise ScheduleError(f"The likelihood takes 1 to {last} intervals of this schedule, not {intervals}.")
    level = schedule.half_logsnr
    share = (level[0] - level) / (level[0] - level[noisiest_spaced(schedule, MAX_SIGMA)]) * intervals
    grid = [0]
    for number in range(1, intervals):
        nearest = int(abs(share - number).argmin())
        grid.append(min(max(nearest, grid[-1] + 1), last - (intervals - number)))
    return [*grid, last]


def bin_width(levels: int) -> float:
    """Give the distance between neighbouring values of a pixel, of which so many lie in [-1, 1]: 2/255 of 256."""
    return 2.0 / (levels - 1)


def dequantised(x_0: Tensor, generator: torch.Generator, levels: int = LEVELS) -> Tensor:
    """Spread each pixel evenly over its bin, which makes pixels continuous (Theis et al. 2016, Sec. 3.1).

    Args:
        x_0: Images on the grid of `levels` values in [-1, 1], [B, C, H, W].
        generator: On the device of x_0.
        levels: Values that a pixel has, at least 2.
    Returns:
        Images in [-1 - h, 1 + h], h = 1 / (levels - 1), shaped like x_0.
    """
    u = torch.rand(x_0.shape, generator=generator, device=x_0.device, dtype=x_0.dtype)
    return x_0 + bin_width(levels) * (u - 0.5)


def density_bits(log_density: Tensor, dimensions: int, levels: int = LEVELS) -> Tensor:
    """Turn the log density of dequantised pixels into bits per dimension; on average at least those of the pixels themselves.

    -(log_density + D * log(2 / (levels - 1))) / (D * log 2)

    Args:
        log_density: In nats, [B].
        dimensions: D, the number of pixels times channels.
        levels: Values that a pixel has.
    """
    return -(log_density / dimensions + math.log(bin_width(levels))) / math.log(2.0)
