"""What the network predicts: the noise eps, the image x_0, or the velocity v; and the one denoiser that samplers see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, assert_never

import torch
from torch import Tensor

from ddpm_cli.diffusion.forward import at_least_float32, check_same_shape, extract
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.errors import ScheduleError

Parameterization = Literal["eps", "x0", "v"]
Network = Callable[[Tensor, Tensor], Tensor]
"""Takes x_t [B, C, H, W] and t int64 [B]; returns its prediction, shaped like x_t."""


class Denoised(NamedTuple):
    """Both estimates that follow from one prediction, [B, C, H, W] each; x_t = sqrt(abar) * x0_hat + sqrt(1 - abar) * eps_hat."""

    x0_hat: Tensor
    eps_hat: Tensor


Denoise = Callable[[Tensor, int], Denoised]
"""Takes x_t [B, C, H, W] and its step t in [0, T)."""


def x_0_from_eps(x_t: Tensor, eps: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """The image that x_t and its noise imply (DDPM, Eq. 15).

    x_0 = (x_t - sqrt(1 - abar) * eps) / sqrt(abar)
    """
    signal, noise = _scales(x_t, t, schedule)
    return (x_t - noise * eps) / signal


def eps_from_x_0(x_t: Tensor, x_0: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """The noise that x_t and its image imply (DDPM, Eq. 4 solved for eps).

    eps = (x_t - sqrt(abar) * x_0) / sqrt(1 - abar)
    """
    signal, noise = _scales(x_t, t, schedule)
    return (x_t - signal * x_0) / noise


def v_from_x_0_eps(x_0: Tensor, eps: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """The velocity (Salimans & Ho 2022, Sec. 4 and App. D).

    v = sqrt(abar) * eps - sqrt(1 - abar) * x_0
    """
    signal, noise = _scales(x_0, t, schedule)
    return signal * eps - noise * x_0


def x_0_eps_from_v(x_t: Tensor, v: Tensor, t: Tensor, schedule: NoiseSchedule) -> Denoised:
    """The image and the noise that x_t and its velocity imply (Salimans & Ho 2022, App. D).

    x_0 = sqrt(abar) * x_t - sqrt(1 - abar) * v
    eps = sqrt(1 - abar) * x_t + sqrt(abar) * v
    """
    signal, noise = _scales(x_t, t, schedule)
    return Denoised(signal * x_t - noise * v, noise * x_t + signal * v)


def target(kind: Parameterization, x_0: Tensor, eps: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """What a network of this parameterization should predict.

    Args:
        kind: "eps", "x0" or "v".
        x_0: Images in [-1, 1], [B, C, H, W].
        eps: The noise that was added, shaped like x_0.
        t: Steps in [0, T), int64, [B].
        schedule: The noise schedule.
    Returns:
        The target, shaped like x_0; float32 or float64.
    """
    match kind:
        case "eps":
            return at_least_float32(eps)
        case "x0":
            return at_least_float32(x_0)
        case "v":
            return v_from_x_0_eps(x_0, eps, t, schedule)
    assert_never(kind)


def to_x0_eps(kind: Parameterization, output: Tensor, x_t: Tensor, t: Tensor, schedule: NoiseSchedule) -> Denoised:
    """Estimates of the image and the noise from a network's output.

    Args:
        kind: "eps", "x0" or "v": what the output is.
        output: The network's output, [B, C, H, W], of any floating dtype.
        x_t: What the network saw, shaped like output.
        t: Steps in [0, T), int64, [B].
        schedule: The noise schedule.
    Returns:
        x0_hat and eps_hat, each shaped like x_t; float32 or float64.
    Raises:
        ShapeError: If output and x_t differ in shape.
    """
    check_same_shape("the network's output", output, "x_t", x_t)
    output, x_t = at_least_float32(output), at_least_float32(x_t)
    match kind:
        case "eps":
            return Denoised(x_0_from_eps(x_t, output, t, schedule), output)
        case "x0":
            return Denoised(output, eps_from_x_0(x_t, output, t, schedule))
        case "v":
            return x_0_eps_from_v(x_t, output, t, schedule)
    assert_never(kind)


def check_parameterization(kind: Parameterization, schedule: NoiseSchedule) -> None:
    """Refuse eps-prediction where x_T holds no signal: x_0 would be 0 / 0 there (Lin et al. 2024, Sec. 3.2).

    Raises:
        ScheduleError: If kind is "eps" and the schedule's terminal SNR is zero.
    """
    if kind == "eps" and schedule.alphas_cumprod[-1] == 0.0:
        raise ScheduleError(
            "With zero terminal SNR the last step is pure noise, and a network that predicts eps says nothing of the image there.",
            'Set objective.parameterization = "v".',
        )


def make_denoise(network: Network, schedule: NoiseSchedule, parameterization: Parameterization, *, clip: bool) -> Denoise:
    """The one denoiser that samplers call, whatever the network predicts.

    Args:
        network: Predicts from x_t [B, C, H, W] and t int64 [B].
        schedule: The noise schedule.
        parameterization: What the network predicts.
        clip: Clip x0_hat to [-1, 1] and derive eps_hat anew, so that the two still make up x_t.
    Returns:
        denoise(x_t, t), with t one step for the whole batch.
    Raises:
        ScheduleError: If network and schedule do not go together, see check_parameterization.
    """
    check_parameterization(parameterization, schedule)

    def denoise(x_t: Tensor, t: int) -> Denoised:
        steps = torch.full((x_t.shape[0],), t, dtype=torch.int64, device=x_t.device)
        estimate = to_x0_eps(parameterization, network(x_t, steps), x_t, steps, schedule)
        if not clip:
            return estimate
        x0_hat = estimate.x0_hat.clamp(-1.0, 1.0)
        return Denoised(x0_hat, eps_from_x_0(x_t, x0_hat, steps, schedule))

    return denoise


def _scales(x: Tensor, t: Tensor, schedule: NoiseSchedule) -> tuple[Tensor, Tensor]:
    return extract(schedule, "sqrt_alphas_cumprod", t, x), extract(schedule, "sqrt_one_minus_alphas_cumprod", t, x)
