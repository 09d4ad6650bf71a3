"""The training loss."""

from __future__ import annotations

from torch import Tensor

from ddpm_cli.diffusion.forward import at_least_float32, check_same_shape, q_sample
from ddpm_cli.diffusion.parameterization import Network, Parameterization, target
from ddpm_cli.diffusion.schedules import NoiseSchedule


def p_losses(
    network: Network, x_0: Tensor, t: Tensor, eps: Tensor, schedule: NoiseSchedule, parameterization: Parameterization = "eps"
) -> Tensor:
    """Squared error of the network's prediction for each image (DDPM, Eq. 14, L_simple, for eps).

    loss = mean over C, H, W of (target - network(q_sample(x_0, t, eps), t))**2

    Autocast reaches the network alone: noising, target and error are float32 (float64 for float64 images).

    Args:
        network: Predicts from x_t [B, C, H, W] and t int64 [B].
        x_0: Images in [-1, 1], [B, C, H, W].
        t: Steps in [0, T), int64, [B].
        eps: Standard normal noise, shaped like x_0.
        schedule: The noise schedule.
        parameterization: What the network predicts.
    Returns:
        The loss of each image, [B]; its mean is what is minimised.
    Raises:
        ShapeError: If eps or the prediction is not shaped like x_0.
    """
    x_0 = at_least_float32(x_0)
    prediction = network(q_sample(x_0, t, eps, schedule), t)
    check_same_shape("the network's output", prediction, "x_0", x_0)
    error = target(parameterization, x_0, eps, t, schedule) - prediction
    return error.square().flatten(1).mean(1)
