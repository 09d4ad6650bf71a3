"""The one denoiser that samplers see: a network's prediction, then guidance, then clipping, each of them once.

predict = predictor(network, schedule, "v")       network's output -> x0_hat, eps_hat
denoise = make_denoise(predict, schedule)         one step for the whole batch, clipped
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ddpm_cli.diffusion.parameterization import (
    Denoised,
    Parameterization,
    check_parameterization,
    eps_from_x_0,
    network_input,
    split_output,
    to_x0_eps,
)
from ddpm_cli.diffusion.schedules import NoiseSchedule


class Network(Protocol):
    """Takes x_t [B, C, H, W], t int64 [B] and, if it was trained with labels, these, int64 [B]; returns its prediction."""

    def __call__(self, x_t: Tensor, t: Tensor, *labels: Tensor) -> Tensor: ...  # noqa: D102


Predict = Callable[[Tensor, Tensor, Tensor | None], Denoised]
"""Takes x_t [B, C, H, W], steps int64 [B] and labels int64 [B] or None."""

Denoise = Callable[[Tensor, int], Denoised]
"""Takes x_t [B, C, H, W] and its step t in [0, T)."""

Threshold = Callable[[Tensor], Tensor]
"""Brings estimates of x_0, [B, C, H, W], back into the range of images."""


def clamp(x0_hat: Tensor) -> Tensor:
    """Clip to [-1, 1], the range of images (DDPM, Sec. 3.3)."""
    return x0_hat.clamp(-1.0, 1.0)


@dataclass(frozen=True)
class KeptNoise:
    """A threshold after which eps_hat stays what the network predicts, as in diffusers' DDIM (Song et al. 2021 clip nothing).

    x_t is then no longer sqrt(abar) * x0_hat + sqrt(1 - abar) * eps_hat; that eps_hat is derived anew is the usual way here.

    Attributes:
        bound: Brings estimates of x_0 back into the range of images.
    """

    bound: Threshold

    def __call__(self, x0_hat: Tensor) -> Tensor:
        """Bring x0_hat, [B, C, H, W], back into range."""
        return self.bound(x0_hat)


def predictor(network: Network, schedule: NoiseSchedule, parameterization: Parameterization) -> Predict:
    """Read a network's output as estimates of the image and the noise.

    Args:
        network: The network.
        schedule: The noise schedule.
        parameterization: What the network predicts.
    Raises:
        ScheduleError: If network and schedule do not go together, see check_parameterization.
    """
    check_parameterization(parameterization, schedule)

    def predict(x_t: Tensor, t: Tensor, labels: Tensor | None) -> Denoised:
        x_in, t_in = network_input(parameterization, x_t, t, schedule)
        output = network(x_in, t_in) if labels is None else network(x_in, t_in, labels)
        prediction, fraction = split_output(output, x_t)
        return to_x0_eps(parameterization, prediction, x_t, t, schedule)._replace(variance_fraction=fraction)

    return predict


def make_denoise(
    predict: Predict, schedule: NoiseSchedule, *, threshold: Threshold | None = clamp, labels: Tensor | None = None
) -> Denoise:
    """The denoiser of one batch.

    Args:
        predict: Estimates of the image and the noise, guided or not.
        schedule: The noise schedule.
        threshold: Applied to x0_hat; eps_hat is derived anew then, so that the two still make up x_t, unless the threshold is
            KeptNoise. None leaves both alone.
        labels: The class of each image, int64 [B], or None.
    Returns:
        denoise(x_t, t), with t one step for the whole batch.
    """
    within_range = thresholded(predict, schedule, threshold)

    def denoise(x_t: Tensor, t: int) -> Denoised:
        return within_range(x_t, torch.full((x_t.shape[0],), t, dtype=torch.int64, device=x_t.device), labels)

    return denoise


def thresholded(predict: Predict, schedule: NoiseSchedule, threshold: Threshold | None) -> Predict:
    """The same prediction with x0_hat brought into range, see make_denoise, which gives each image the same step."""
    if threshold is None:
        return predict

    def within_range(x_t: Tensor, t: Tensor, labels: Tensor | None) -> Denoised:
        estimate = predict(x_t, t, labels)
        x0_hat = threshold(estimate.x0_hat)
        if isinstance(threshold, KeptNoise):
            return estimate._replace(x0_hat=x0_hat)
        return estimate._replace(x0_hat=x0_hat, eps_hat=eps_from_x_0(x_t, x0_hat, t, schedule))

    return within_range
