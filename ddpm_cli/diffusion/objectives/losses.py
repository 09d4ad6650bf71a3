"""Compute the training losses: L_simple and its weightings, the variational bound, and their sum."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ddpm_cli.diffusion.denoise import Network
from ddpm_cli.diffusion.forward import Levels, at_least_float32, noised
from ddpm_cli.diffusion.levels import Schedule
from ddpm_cli.diffusion.objectives.vlb import LEVELS, vlb_term
from ddpm_cli.diffusion.objectives.weightings import Weighting, loss_weight
from ddpm_cli.diffusion.prediction import Eps, Prediction, estimated, split_output
from ddpm_cli.diffusion.schedules import as_table
from ddpm_cli.diffusion.variances import ModelVariance

Loss = Callable[[Network, Tensor, Tensor, Tensor, Schedule], Tensor]
"""loss(network, x_0, t, eps, schedule): the loss of each image, [B]; its mean is what is minimised."""

EPS = Eps()

VLB_SHARE = 0.001
"""The lambda of Nichol & Dhariwal 2021, Sec. 3.1."""


def p_losses(
    network: Network,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    schedule: Schedule,
    prediction: Prediction = EPS,
    weighting: Weighting = "simple",
) -> Tensor:
    """Compute the squared error of the network's prediction for each image (DDPM, Eq. 14, L_simple, for eps).

    loss = weight * mean over C, H, W of (target - network(q_sample(x_0, t, eps), t))**2

    Autocast reaches the network alone: noising, target and error are float32 (float64 for float64 images).

    Args:
        network: Predicts from x_t [B, C, H, W] and t int64 [B]. If it has twice the channels, the second half is not trained here.
        x_0: Images in [-1, 1], [B, C, H, W].
        t: Steps in [0, T), [B]: int64, or real ones between the steps, see Levels.of_steps.
        eps: Standard normal noise, shaped like x_0.
        schedule: The noise schedule.
        prediction: What the network predicts.
        weighting: How much each noise level counts.
    Returns:
        The loss of each image, [B]; its mean is what is minimised.
    Raises:
        ShapeError: If eps or the prediction is not shaped like x_0.
    """
    x_0 = at_least_float32(x_0)
    at = Levels.of_steps(schedule, t, x_0)
    output, _ = _evaluated(network, noised(x_0, eps, at), at, prediction)
    return _weighted_error(output, x_0, eps, at, prediction, weighting)


def vlb_losses(
    network: Network,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    schedule: Schedule,
    prediction: Prediction = EPS,
    variance: ModelVariance = "fixed-small",
    levels: int = LEVELS,
) -> Tensor:
    """Estimate the variational bound from one step of each image (DDPM, Eq. 5; Nichol & Dhariwal 2021, Eq. 4).

    loss = T * L_t, in bits per dimension; its mean over uniform t is the bound without the prior, which nothing trained enters

    Args:
        network: Predicts from x_t and t; [B, 2 C, H, W] if the variance is learned.
        x_0: Images on the grid of `levels` values in [-1, 1], [B, C, H, W].
        t: Steps in [0, T), int64, [B].
        eps: Standard normal noise, shaped like x_0.
        schedule: The noise schedule.
        prediction: What the network predicts.
        variance: Of p(x_{t-1} | x_t).
        levels: Values that a pixel has.
    Returns:
        The loss of each image, [B].
    Raises:
        ShapeError: If eps or the prediction is not shaped like x_0.
        ConfigError: If the variance is learned-range and the network did not learn one.
    """
    x_0 = at_least_float32(x_0)
    at = Levels.of_steps(schedule, t, x_0)
    x_t = noised(x_0, eps, at)
    output, fraction = _evaluated(network, x_t, at, prediction)
    estimate = estimated(prediction, output, x_t, at)._replace(variance_fraction=fraction)
    return schedule.timesteps * vlb_term(estimate, x_0, x_t, t, as_table(schedule), variance, levels)


def hybrid_losses(
    network: Network,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    schedule: Schedule,
    prediction: Prediction = EPS,
    weighting: Weighting = "simple",
    vlb_share: float = VLB_SHARE,
    levels: int = LEVELS,
) -> Tensor:
    """Add L_simple for the mean and the bound for the learned variance (Nichol & Dhariwal 2021, Eq. 16).

    loss = p_losses + vlb_share * vlb_losses, where the second sees the prediction as a constant

    Args:
        network: Predicts from x_t and t, [B, 2 C, H, W].
        x_0: Images on the grid of `levels` values in [-1, 1], [B, C, H, W].
        t: Steps in [0, T), int64, [B].
        eps: Standard normal noise, shaped like x_0.
        schedule: The noise schedule.
        prediction: What the network predicts.
        weighting: How much each noise level counts in the first part.
        vlb_share: The paper's lambda.
        levels: Values that a pixel has.
    Returns:
        The loss of each image, [B].
    Raises:
        ShapeError: If eps or the prediction is not shaped like x_0.
        ConfigError: If the network did not learn a variance.
    """
    x_0 = at_least_float32(x_0)
    at = Levels.of_steps(schedule, t, x_0)
    x_t = noised(x_0, eps, at)
    output, fraction = _evaluated(network, x_t, at, prediction)
    estimate = estimated(prediction, output.detach(), x_t, at)._replace(variance_fraction=fraction)
    bound = schedule.timesteps * vlb_term(estimate, x_0, x_t, t, as_table(schedule), "learned-range", levels)
    return _weighted_error(output, x_0, eps, at, prediction, weighting) + vlb_share * bound


def _evaluated(network: Network, x_t: Tensor, at: Levels, prediction: Prediction) -> tuple[Tensor, Tensor | None]:
    return split_output(network(*prediction.network_input(x_t, at)), x_t)


def _weighted_error(output: Tensor, x_0: Tensor, eps: Tensor, at: Levels, prediction: Prediction, weighting: Weighting) -> Tensor:
    error = prediction.target(x_0, eps, at) - output
    return error.square().flatten(1).mean(1) * loss_weight(weighting, prediction, at)
