"""Make the one denoiser that samplers see: a network's prediction, then guidance, then clipping, each of them once.

predict = predictor(network, schedule, V())       network's output -> x0_hat, eps_hat
denoise = make_denoise(predict, schedule)         one level for the whole batch, clipped
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ddpm_cli.diffusion.forward import Levels
from ddpm_cli.diffusion.levels import Level, Schedule
from ddpm_cli.diffusion.prediction import Denoised, Prediction, check_prediction, eps_from_x_0, estimated, split_output


class Network(Protocol):
    """Predict from x_t [B, C, H, W], t int64 [B] and, if it was trained with labels, these, int64 [B].

    One that was trained with augmentation takes `augmentation` as well, see `models.base.Denoiser.take_augmentation`.
    """

    def __call__(self, x_t: Tensor, t: Tensor, *labels: Tensor) -> Tensor: ...  # noqa: D102


Predict = Callable[[Tensor, Levels, Tensor | None], Denoised]
"""Takes x_t [B, C, H, W], the level of each image and labels int64 [B] or None."""

Denoise = Callable[[Tensor, Level], Denoised]
"""Takes x_t [B, C, H, W] and the level of all of them."""

Threshold = Callable[[Tensor], Tensor]
"""Brings estimates of x_0, [B, C, H, W], back into the range of images."""


def clamp(x0_hat: Tensor) -> Tensor:
    """Clip to [-1, 1], the range of images (DDPM, Sec. 3.3)."""
    return x0_hat.clamp(-1.0, 1.0)


@dataclass(frozen=True)
class KeptNoise:
    """Leave eps_hat what the network predicts when x0_hat is clipped, as diffusers' DDIM does (Song et al. 2021 clip nothing).

    x_t is then no longer alpha * x0_hat + sigma * eps_hat; that eps_hat is derived anew is the usual way here.

    Attributes:
        bound: Brings estimates of x_0 back into the range of images.
    """

    bound: Threshold

    def __call__(self, x0_hat: Tensor) -> Tensor:
        """Bring x0_hat, [B, C, H, W], back into range."""
        return self.bound(x0_hat)


def predictor(network: Network, schedule: Schedule, prediction: Prediction) -> Predict:
    """Read a network's output as estimates of the image and the noise.

    Args:
        network: The network.
        schedule: The noise schedule that it was trained with.
        prediction: What the network predicts.
    Raises:
        ScheduleError: If network and schedule do not go together, see check_prediction.
    """
    check_prediction(prediction, schedule)

    def predict(x_t: Tensor, at: Levels, labels: Tensor | None) -> Denoised:
        x_in, t_in = prediction.network_input(x_t, at)
        output = network(x_in, t_in) if labels is None else network(x_in, t_in, labels)
        predicted, fraction = split_output(output, x_t)
        return estimated(prediction, predicted, x_t, at)._replace(variance_fraction=fraction)

    return predict


def make_denoise(
    predict: Predict, schedule: Schedule, *, threshold: Threshold | None = clamp, labels: Tensor | None = None
) -> Denoise:
    """Make the denoiser of one batch.

    Args:
        predict: Estimates of the image and the noise, guided or not.
        schedule: Tells what the network is told of a level.
        threshold: Applied to x0_hat; eps_hat is derived anew then, so that the two still make up x_t, unless the threshold is
            KeptNoise. None leaves both alone.
        labels: The class of each image, int64 [B], or None.
    Returns:
        denoise(x_t, level), with one level for the whole batch.
    """
    within_range = thresholded(predict, threshold)

    def denoise(x_t: Tensor, level: Level) -> Denoised:
        return within_range(x_t, Levels.all_at(level, schedule.told(level), x_t), labels)

    return denoise


def thresholded(predict: Predict, threshold: Threshold | None) -> Predict:
    """Bring x0_hat of a prediction into range, see make_denoise, which gives each image the same level."""
    if threshold is None:
        return predict

    def within_range(x_t: Tensor, at: Levels, labels: Tensor | None) -> Denoised:
        estimate = predict(x_t, at, labels)
        x0_hat = threshold(estimate.x0_hat)
        if isinstance(threshold, KeptNoise):
            return estimate._replace(x0_hat=x0_hat)
        return estimate._replace(x0_hat=x0_hat, eps_hat=eps_from_x_0(x_t, x0_hat, at))

    return within_range
