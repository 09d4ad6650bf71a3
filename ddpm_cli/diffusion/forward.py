"""Run the forward process: noise images, and go backwards where x_0 is known."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm_cli.diffusion.flows import PathSchedule
from ddpm_cli.diffusion.levels import Level, Schedule, added_noise
from ddpm_cli.diffusion.schedules import NoiseSchedule, as_table
from ddpm_cli.errors import ShapeError


@lru_cache(maxsize=128)
def _table(schedule: NoiseSchedule, name: str, device: torch.device, dtype: torch.dtype) -> Tensor:
    # Cast before moving: MPS has no float64.
    return torch.tensor(getattr(schedule, name), dtype=dtype).to(device)


def at_least_float32(x: Tensor) -> Tensor:
    """Widen half precision to float32; leave float32 and float64 as they are."""
    return x if x.dtype == torch.float64 else x.float()


def in_high_precision(t: Tensor) -> Tensor:
    """Take steps, [B], for float64; for float32 on MPS, which has no float64."""
    return t.float() if t.device.type == "mps" else t.double()


def extract(schedule: NoiseSchedule, name: str, t: Tensor, x: Tensor) -> Tensor:
    """Take one entry of a schedule's table for each image, shaped to multiply x.

    Args:
        schedule: The noise schedule.
        name: A float64 table of it, for example "alphas_cumprod".
        t: Steps in [0, T), int64, [B].
        x: Images, [B, ...]; give the shape and the device.
    Returns:
        Values on x's device, [B, 1, ..., 1]; float64 if x is, else float32, never less.
    Raises:
        ShapeError: If t does not hold one step for each image.
    """
    if t.shape != x.shape[:1]:
        raise ShapeError(f"t must hold one step for each of {x.shape[0]} images, but has shape {tuple(t.shape)}.")
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return _table(schedule, name, x.device, dtype)[t].view(-1, *[1] * (x.ndim - 1))


class Levels(NamedTuple):
    """Hold the noise level of each image of a batch, x_t = alpha * x_0 + sigma * eps, shaped to multiply x_t [B, C, H, W].

    Attributes:
        step: What a network is told of it, [B]: int64 for steps of a table, float32 between them and on paths, see `Schedule.told`.
        alpha: Scale of the data, [B, 1, 1, 1].
        sigma: Scale of the noise, [B, 1, 1, 1].
        snr: (alpha / sigma)**2, [B, 1, 1, 1].
        half_logsnr: log(alpha / sigma), [B, 1, 1, 1].
        common: The level of all of them, where that is known.
        power: alpha**2 + sigma**2, [B, 1, 1, 1]; the number 1 where variance is preserved, so that nothing is rounded there.
    """

    step: Tensor
    alpha: Tensor
    sigma: Tensor
    snr: Tensor
    half_logsnr: Tensor
    common: Level | None = None
    power: Tensor | float = 1.0

    @classmethod
    def of_steps(cls, schedule: Schedule, t: Tensor, x: Tensor) -> Levels:
        """Look up steps t in [0, T), [B]; x gives device, shape and precision, see extract.

        Args:
            t: int64, or real steps, float32 or float64, between which the log SNR of a table is interpolated as in
                `NoiseSchedule.level`; a path has a level at each, from -1, no noise, on.
        """
        if isinstance(schedule, PathSchedule):
            return cls._on_path(schedule, (in_high_precision(t) + 1.0) / schedule.timesteps, x)
        schedule = as_table(schedule)
        if t.is_floating_point():
            return cls._between_steps(schedule, t, x)
        names = ("sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod", "snr", "half_logsnr")
        alpha, sigma, snr, half_logsnr = (extract(schedule, name, t, x) for name in names)
        return cls(t, alpha, sigma, snr, half_logsnr)

    @classmethod
    def _between_steps(cls, schedule: NoiseSchedule, t: Tensor, x: Tensor) -> Levels:
        table = _table(schedule, "half_logsnr", t.device, t.dtype)
        below = t.floor().long().clamp(max=max(len(table) - 2, 0))
        above = (below + 1).clamp(max=len(table) - 1)
        return cls._of_half_logsnr(t, torch.lerp(table[below], table[above], t - below), x)

    @classmethod
    def _on_path(cls, schedule: PathSchedule, t: Tensor, x: Tensor) -> Levels:
        """The levels at times t in [0, 1], [B]."""
        if t.shape != x.shape[:1]:
            raise ShapeError(f"t must hold one step for each of {x.shape[0]} images, but has shape {tuple(t.shape)}.")
        alpha, sigma = schedule.scales(t, torch)
        ratio = alpha / sigma
        shape = (-1, *[1] * (x.ndim - 1))
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        each = (value.to(x.device, dtype).view(shape) for value in (alpha, sigma, ratio**2, ratio.log(), alpha**2 + sigma**2))
        alpha, sigma, snr, half_logsnr, power = each
        told = schedule.network_time(t).float().to(x.device)
        return cls(told, alpha, sigma, snr, half_logsnr, power=1.0 if schedule.preserves_variance else power)

    @classmethod
    def of_ratios(cls, schedule: Schedule, ratio: Tensor, x: Tensor) -> Levels:
        """Find the levels with these noise over signal, sigma / alpha; x as in of_steps.

        Args:
            ratio: At least 0, float32 or float64, [B]; beyond the finite ones of the steps the nearest of these is taken.
        """
        if isinstance(schedule, PathSchedule):
            T, t = schedule.timesteps, schedule.time_of_ratio(ratio, torch)
            return cls._on_path(schedule, t.clamp(1.0 / T, max(T - 1.0, 1.0) / T), x)
        schedule = as_table(schedule)
        table = _table(schedule, "half_logsnr", ratio.device, ratio.dtype)
        table = table[:-1] if schedule.alphas_cumprod[-1] == 0.0 else table
        if len(table) == 1:
            return cls.of_steps(schedule, torch.zeros_like(ratio, dtype=torch.int64), x)
        half_logsnr = -ratio.clamp_min(torch.finfo(ratio.dtype).tiny).log()
        half_logsnr = half_logsnr.clamp(table[-1], table[0])
        above = torch.searchsorted(-table, -half_logsnr).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        return cls._of_half_logsnr(above - 1 + (half_logsnr - low) / (high - low), half_logsnr, x)

    @classmethod
    def _of_half_logsnr(cls, t: Tensor, half_logsnr: Tensor, x: Tensor) -> Levels:
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        signal, noise = torch.sigmoid(2 * half_logsnr), torch.sigmoid(-2 * half_logsnr)
        each = (signal.sqrt(), noise.sqrt(), signal / noise, half_logsnr)
        alpha, sigma, snr, half_logsnr = (value.to(dtype).view(-1, *[1] * (x.ndim - 1)) for value in each)
        return cls(t.float(), alpha, sigma, snr, half_logsnr)

    @classmethod
    def all_at(cls, level: Level, step: float, x: Tensor) -> Levels:
        """Give all images of x, [B, C, H, W], one level, of which a network is told that it is `step`."""
        told = torch.int64 if isinstance(step, int) else torch.float32
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        t = torch.full(x.shape[:1], step, dtype=told, device=x.device)
        values = (level.alpha, level.sigma, level.signal / level.noise, level.half_logsnr)
        shape = (x.shape[0], *[1] * (x.ndim - 1))
        alpha, sigma, snr, half_logsnr = (torch.full(shape, value, dtype=dtype, device=x.device) for value in values)
        return cls(t, alpha, sigma, snr, half_logsnr, level, 1.0 if level.power == 1.0 else torch.full_like(alpha, level.power))

    def twice(self) -> Levels:
        """Repeat the levels for a batch that is there twice."""
        step, alpha, sigma, snr, half_logsnr = (torch.cat([part, part]) for part in self[:5])
        power = torch.cat([self.power, self.power]) if isinstance(self.power, Tensor) else self.power
        return Levels(step, alpha, sigma, snr, half_logsnr, self.common, power)


def q_sample(x_0: Tensor, t: Tensor, eps: Tensor, schedule: Schedule) -> Tensor:
    """Noise clean images to step t (DDPM, Eq. 4).

    x_t = sqrt(alphas_cumprod[t]) * x_0 + sqrt(1 - alphas_cumprod[t]) * eps; on a path, alpha * x_0 + sigma * eps

    Computed in float32 or float64, also under autocast.

    Args:
        x_0: Images in [-1, 1], [B, C, H, W].
        t: Steps in [0, T), int64, [B].
        eps: Standard normal noise, shaped like x_0.
        schedule: The noise schedule.
    Returns:
        x_t, with the shape and dtype of x_0.
    Raises:
        ShapeError: If eps and x_0 differ in shape, or t does not hold one step for each image.
    """
    return noised(x_0, eps, Levels.of_steps(schedule, t, x_0))


def noised(x_0: Tensor, eps: Tensor, at: Levels) -> Tensor:
    """Noise clean images to their levels, x_t = alpha * x_0 + sigma * eps (DDPM, Eq. 4).

    Raises:
        ShapeError: If eps and x_0 differ in shape.
    """
    check_same_shape("eps", eps, "x_0", x_0)
    return (at.alpha * x_0 + at.sigma * eps).to(x_0.dtype)


def noise_further(x_s: Tensor, s: Level, t: Level, z: Tensor) -> Tensor:
    """Noise images that are at level s already to level t (DDPM, Eq. 2 from s to t at once).

    x_t = alpha_t / alpha_s * x_s + sqrt(sigma_t**2 - (alpha_t / alpha_s)**2 * sigma_s**2) * z

    Where variance is preserved, that is sqrt(abar_t / abar_s) * x_s + sqrt(1 - abar_t / abar_s) * z.

    Args:
        x_s: Images at level s, [B, C, H, W].
        s: A level, CLEAN included.
        t: One with more noise.
        z: Standard normal noise, shaped like x_s.
    Returns:
        x_t, shaped like x_s.
    """
    return math.sqrt(t.signal / s.signal) * x_s + math.sqrt(added_noise(s, t)) * z


def q_posterior(x_0: Tensor, x_t: Tensor, t: Tensor, schedule: NoiseSchedule) -> tuple[Tensor, Tensor, Tensor]:
    """Compute mean and variance of q(x_{t-1} | x_t, x_0) (DDPM, Eq. 6 and 7).

    mean = sqrt(alphas_cumprod_prev) * betas / (1 - alphas_cumprod) * x_0
         + sqrt(alphas) * (1 - alphas_cumprod_prev) / (1 - alphas_cumprod) * x_t
    variance = betas * (1 - alphas_cumprod_prev) / (1 - alphas_cumprod)

    Args:
        x_0: Images in [-1, 1], [B, C, H, W].
        x_t: The same images at step t, shaped like x_0.
        t: Steps in [0, T), int64, [B].
        schedule: The noise schedule.
    Returns:
        mean, [B, C, H, W]; variance and log_variance_clipped, [B, 1, 1, 1]. The variance is 0 at t = 0; its log has there the
        value of t = 1.
    Raises:
        ShapeError: If x_t and x_0 differ in shape, or t does not hold one step for each image.
    """
    check_same_shape("x_t", x_t, "x_0", x_0)
    coef_x_0 = extract(schedule, "posterior_mean_coef_x_0", t, x_0)
    coef_x_t = extract(schedule, "posterior_mean_coef_x_t", t, x_0)
    variance = extract(schedule, "posterior_variance", t, x_0)
    log_variance = extract(schedule, "posterior_log_variance_clipped", t, x_0)
    return coef_x_0 * x_0 + coef_x_t * x_t, variance, log_variance


def check_same_shape(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """Refuse tensors that would only fit together by broadcasting.

    Raises:
        ShapeError: If the shapes differ.
    """
    if x.shape != other.shape:
        raise ShapeError(f"{name} has shape {tuple(x.shape)}, but {other_name} has {tuple(other.shape)}.")
