"""The training losses: L_simple and its weightings, the variational bound, and their sum."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ddpm_cli.diffusion.denoise import Network
from ddpm_cli.diffusion.forward import at_least_float32, q_sample
from ddpm_cli.diffusion.objectives.vlb import ModelVariance, vlb_term
from ddpm_cli.diffusion.objectives.weightings import Weighting, loss_weight
from ddpm_cli.diffusion.parameterization import Parameterization, network_input, split_output, target, to_x0_eps
from ddpm_cli.diffusion.schedules import NoiseSchedule

Loss = Callable[[Network, Tensor, Tensor, Tensor, NoiseSchedule], Tensor]
"""loss(network, x_0, t, eps, schedule): the loss of each image, [B]; its mean is what is minimised."""

VLB_SHARE = 0.001
"""The lambda of Nichol & Dhariwal 2021, Sec. 3.1."""


def p_losses(
    network: Network,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    schedule: NoiseSchedule,
    parameterization: Parameterization = "eps",
    weighting: Weighting = "simple",
) -> Tensor:
    """Squared error of the network's prediction for each image (DDPM, Eq. 14, L_simple, for eps).

    loss = weight * mean over C, H, W of (target - network(q_sample(x_0, t, eps), t))**2

    Autocast reaches the network alone: noising, target and error are float32 (float64 for float64 images).

    Args:
        network: Predicts from x_t [B, C, H, W] and t int64 [B]. If it has twice the channels, the second half is not trained here.
        x_0: Images in [-1, 1], [B, C, H, W].
        t: Steps in [0, T), int64, [B].
        eps: Standard normal noise, shaped like x_0.
        schedule: The noise schedule.
        parameterization: What the network predicts.
        weighting: How much each noise level counts.
    Returns:
        The loss of each image, [B]; its mean is what is minimised.
    Raises:
        ShapeError: If eps or the prediction is not shaped like x_0.
    """
    x_0 = at_least_float32(x_0)
    prediction, _ = _evaluated(network, q_sample(x_0, t, eps, schedule), t, schedule, parameterization)
    return _weighted_error(prediction, x_0, t, eps, schedule, parameterization, weighting)


def vlb_losses(
    network: Network,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    schedule: NoiseSchedule,
    parameterization: Parameterization = "eps",
    variance: ModelVariance = "fixed-small",
) -> Tensor:
    """An estimate of the variational bound from one step of each image (DDPM, Eq. 5; Nichol & Dhariwal 2021, Eq. 4).

    loss = T * L_t, in bits per dimension; its mean over uniform t is the bound without the prior, which nothing trained enters

    Args:
        network: Predicts from x_t and t; [B, 2 C, H, W] if the variance is learned.
        x_0: Images on the grid of 256 values in [-1, 1], [B, C, H, W].
        t: Steps in [0, T), int64, [B].
        eps: Standard normal noise, shaped like x_0.
        schedule: The noise schedule.
        parameterization: What the network predicts.
        variance: Of p(x_{t-1} | x_t).
    Returns:
        The loss of each image, [B].
    Raises:
        ShapeError: If eps or the prediction is not shaped like x_0.
        ConfigError: If the variance is learned-range and the network did not learn one.
    """
    x_0 = at_least_float32(x_0)
    x_t = q_sample(x_0, t, eps, schedule)
    prediction, fraction = _evaluated(network, x_t, t, schedule, parameterization)
    return _bound(prediction, fraction, x_0, x_t, t, schedule, parameterization, variance)


def hybrid_losses(
    network: Network,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    schedule: NoiseSchedule,
    parameterization: Parameterization = "eps",
    weighting: Weighting = "simple",
    vlb_share: float = VLB_SHARE,
) -> Tensor:
    """L_simple for the mean and the bound for the learned variance (Nichol & Dhariwal 2021, Eq. 16).

    loss = p_losses + vlb_share * vlb_losses, where the second sees the prediction as a constant

    Args:
        network: Predicts from x_t and t, [B, 2 C, H, W].
        x_0: Images on the grid of 256 values in [-1, 1], [B, C, H, W].
        t: Steps in [0, T), int64, [B].
        eps: Standard normal noise, shaped like x_0.
        schedule: The noise schedule.
        parameterization: What the network predicts.
        weighting: How much each noise level counts in the first part.
        vlb_share: The paper's lambda.
    Returns:
        The loss of each image, [B].
    Raises:
        ShapeError: If eps or the prediction is not shaped like x_0.
        ConfigError: If the network did not learn a variance.
    """
    x_0 = at_least_float32(x_0)
    x_t = q_sample(x_0, t, eps, schedule)
    prediction, fraction = _evaluated(network, x_t, t, schedule, parameterization)
    simple = _weighted_error(prediction, x_0, t, eps, schedule, parameterization, weighting)
    bound = _bound(prediction.detach(), fraction, x_0, x_t, t, schedule, parameterization, "learned-range")
    return simple + vlb_share * bound


def _evaluated(
    network: Network, x_t: Tensor, t: Tensor, schedule: NoiseSchedule, kind: Parameterization
) -> tuple[Tensor, Tensor | None]:
    return split_output(network(*network_input(kind, x_t, t, schedule)), x_t)


def _weighted_error(
    prediction: Tensor,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    schedule: NoiseSchedule,
    kind: Parameterization,
    weighting: Weighting,
) -> Tensor:
    error = target(kind, x_0, eps, t, schedule) - prediction
    return error.square().flatten(1).mean(1) * loss_weight(weighting, kind, x_0, t, schedule)


def _bound(
    prediction: Tensor,
    fraction: Tensor | None,
    x_0: Tensor,
    x_t: Tensor,
    t: Tensor,
    schedule: NoiseSchedule,
    kind: Parameterization,
    variance: ModelVariance,
) -> Tensor:
    estimate = to_x0_eps(kind, prediction, x_t, t, schedule)._replace(variance_fraction=fraction)
    return schedule.timesteps * vlb_term(estimate, x_0, x_t, t, schedule, variance)
