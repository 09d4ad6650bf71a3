"""What the network predicts: the noise eps, the image x_0, the velocity v, or EDM's mixture of image and noise."""

from __future__ import annotations

from typing import Literal, NamedTuple, assert_never

from torch import Tensor

from ddpm_cli.diffusion.edm import Edm, noise_condition, preconditioning
from ddpm_cli.diffusion.forward import at_least_float32, check_same_shape, extract
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.errors import ScheduleError, ShapeError

Parameterization = Literal["eps", "x0", "v"] | Edm


class Denoised(NamedTuple):
    """Both estimates that follow from one prediction; x_t = sqrt(abar) * x0_hat + sqrt(1 - abar) * eps_hat.

    Attributes:
        x0_hat: The image, [B, C, H, W].
        eps_hat: The noise, shaped like x0_hat.
        variance_fraction: From a network that learned the variance of the reverse process, where log variance lies between its
            bounds, shaped like x0_hat: 0 is beta-tilde and 1 is beta (Nichol & Dhariwal 2021, Eq. 15). As in the paper, nothing
            forces it to stay between the two. None from any other network.
    """

    x0_hat: Tensor
    eps_hat: Tensor
    variance_fraction: Tensor | None = None


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


def f_from_x_0_eps(edm: Edm, x_0: Tensor, eps: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """What the preconditioned network of Karras et al. 2022 should predict (Eq. 8).

    F = (x_0 - c_skip * x_t) / c_out
    """
    signal, noise = _scales(x_0, t, schedule)
    c_skip, c_out, _ = preconditioning(edm, x_0, t, schedule)
    return (x_0 - c_skip * (signal * x_0 + noise * eps)) / c_out


def x_0_from_f(edm: Edm, x_t: Tensor, f: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """The image that x_t and the preconditioned network's output imply (Karras et al. 2022, Eq. 7).

    x_0 = c_skip * x_t + c_out * F
    """
    c_skip, c_out, _ = preconditioning(edm, x_t, t, schedule)
    return c_skip * x_t + c_out * f


def network_input(kind: Parameterization, x_t: Tensor, t: Tensor, schedule: NoiseSchedule) -> tuple[Tensor, Tensor]:
    """What a network of this parameterization is given for x_t and t: these themselves, or EDM's c_in * x_t and c_noise.

    Args:
        kind: "eps", "x0", "v" or Edm.
        x_t: Images at step t, [B, C, H, W].
        t: Steps in [0, T), int64, [B].
        schedule: The noise schedule.
    Returns:
        The images, [B, C, H, W], and the noise levels, [B], that the network sees.
    """
    if isinstance(kind, Edm):
        return preconditioning(kind, x_t, t, schedule).c_in * x_t, noise_condition(x_t, t, schedule)
    return x_t, t


def split_output(output: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor | None]:
    """Take a network's output apart: its prediction, and the variance if it learned one (Nichol & Dhariwal 2021, Sec. 3.1).

    variance_fraction = (second half of the channels + 1) / 2

    Args:
        output: The network's output, [B, C, H, W], or [B, 2 C, H, W] if it learned the variance.
        x_t: What the network saw, [B, C, H, W].
    Returns:
        The prediction, shaped like x_t, and the variance_fraction of Denoised or None.
    Raises:
        ShapeError: If the output has neither shape.
    """
    channels = x_t.shape[1]
    if output.shape == x_t.shape:
        return output, None
    if output.shape != (x_t.shape[0], 2 * channels, *x_t.shape[2:]):
        raise ShapeError(
            f"the network's output must be shaped like x_t, {tuple(x_t.shape)}, or have twice its channels, but has shape "
            f"{tuple(output.shape)}."
        )
    return output[:, :channels], (at_least_float32(output[:, channels:]) + 1.0) / 2.0


def target(kind: Parameterization, x_0: Tensor, eps: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """What a network of this parameterization should predict.

    Args:
        kind: "eps", "x0", "v" or Edm.
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
        case Edm():
            return f_from_x_0_eps(kind, x_0, eps, t, schedule)
    assert_never(kind)


def to_x0_eps(kind: Parameterization, output: Tensor, x_t: Tensor, t: Tensor, schedule: NoiseSchedule) -> Denoised:
    """Estimates of the image and the noise from a network's output.

    Args:
        kind: "eps", "x0", "v" or Edm: what the output is.
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
        case Edm():
            x0_hat = x_0_from_f(kind, x_t, output, t, schedule)
            return Denoised(x0_hat, eps_from_x_0(x_t, x0_hat, t, schedule))
    assert_never(kind)


def check_parameterization(kind: Parameterization, schedule: NoiseSchedule) -> None:
    """Refuse what needs some signal in x_T where there is none.

    With eps, x_0 would be 0 / 0 there (Lin et al. 2024, Sec. 3.2); EDM's noise level would be infinite.

    Raises:
        ScheduleError: If kind is "eps" or Edm and the schedule's terminal SNR is zero.
    """
    if schedule.alphas_cumprod[-1] != 0.0 or kind in ("x0", "v"):
        return
    reason = (
        "the last step has an infinite noise level, which EDM cannot express"
        if isinstance(kind, Edm)
        else "the last step is pure noise, and a network that predicts eps says nothing of the image there"
    )
    raise ScheduleError(f"With zero terminal SNR {reason}.", 'Set objective.parameterization = "v".')


def _scales(x: Tensor, t: Tensor, schedule: NoiseSchedule) -> tuple[Tensor, Tensor]:
    return extract(schedule, "sqrt_alphas_cumprod", t, x), extract(schedule, "sqrt_one_minus_alphas_cumprod", t, x)
