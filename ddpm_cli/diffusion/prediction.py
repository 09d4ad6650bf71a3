"""Say what a network predicts: the noise eps, the image x_0, the velocities v and u, or EDM's mixture of image and noise.

Each kind is a class: what the network is given, what it should say, how image and noise follow from that, and what its error is
worth. A new kind is one class more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from ddpm_cli.diffusion.forward import Levels, at_least_float32, check_same_shape
from ddpm_cli.diffusion.levels import Schedule
from ddpm_cli.errors import ScheduleError, ShapeError

LevelInput = Literal["step", "log-sigma"]


class Denoised(NamedTuple):
    """Hold both estimates that follow from one prediction; x_t = alpha * x0_hat + sigma * eps_hat.

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


class Prediction(Protocol):
    """Say what a network predicts; x_t, x_0 and eps are [B, C, H, W], float32 or float64."""

    def network_input(self, x_t: Tensor, at: Levels) -> tuple[Tensor, Tensor]:
        """Give what the network is fed with: images, [B, C, H, W], and noise levels, [B]."""
        ...

    def target(self, x_0: Tensor, eps: Tensor, at: Levels) -> Tensor:
        """Give what the network should say, shaped like x_0."""
        ...

    def estimate(self, output: Tensor, x_t: Tensor, at: Levels) -> Denoised:
        """Derive the image and the noise that the network's output implies, shaped like x_t."""
        ...

    def error_factor(self, at: Levels) -> Tensor:
        """Tell by what to multiply the squared error of x0_hat to get that of the output, [B, 1, 1, 1]."""
        ...

    @property
    def unknown_without_signal(self) -> str | None:
        """Tell why nothing can be predicted where no signal is left, or None."""
        ...


def x_0_from_eps(x_t: Tensor, eps: Tensor, at: Levels) -> Tensor:
    """Derive the image from x_t and its noise (DDPM, Eq. 15).

    x_0 = (x_t - sigma * eps) / alpha
    """
    return (x_t - at.sigma * eps) / at.alpha


def eps_from_x_0(x_t: Tensor, x_0: Tensor, at: Levels) -> Tensor:
    """Derive the noise from x_t and its image (DDPM, Eq. 4 solved for eps).

    eps = (x_t - alpha * x_0) / sigma
    """
    return (x_t - at.alpha * x_0) / at.sigma


def v_from_x_0_eps(x_0: Tensor, eps: Tensor, at: Levels) -> Tensor:
    """Compute the velocity (Salimans & Ho 2022, Sec. 4 and App. D).

    v = alpha * eps - sigma * x_0
    """
    return at.alpha * eps - at.sigma * x_0


@dataclass(frozen=True)
class Eps:
    """Predict the noise (DDPM, Sec. 3.2).

    Attributes:
        level_input: Whether the network is told the step, or log(sigma / alpha).
    """

    level_input: LevelInput = "step"

    def network_input(self, x_t: Tensor, at: Levels) -> tuple[Tensor, Tensor]:
        """Give x_t itself, and its step or log(sigma / alpha)."""
        return x_t, at.step if self.level_input == "step" else -at.half_logsnr.flatten()

    def target(self, x_0: Tensor, eps: Tensor, at: Levels) -> Tensor:
        """Give the noise itself."""
        return at_least_float32(eps)

    def estimate(self, output: Tensor, x_t: Tensor, at: Levels) -> Denoised:
        """Take the output for eps_hat."""
        return Denoised(x_0_from_eps(x_t, output, at), output)

    def error_factor(self, at: Levels) -> Tensor:
        """Give SNR: eps_hat - eps = -alpha / sigma * (x0_hat - x_0)."""
        return at.snr

    @property
    def unknown_without_signal(self) -> str | None:
        """Tell that x_0 would be 0 / 0 (Lin et al. 2024, Sec. 3.2)."""
        return "the last step is pure noise, and a network that predicts eps says nothing of the image there"


@dataclass(frozen=True)
class X0:
    """Predict the image (DDPM, Sec. 3.2)."""

    def network_input(self, x_t: Tensor, at: Levels) -> tuple[Tensor, Tensor]:
        """Give x_t and its step themselves."""
        return x_t, at.step

    def target(self, x_0: Tensor, eps: Tensor, at: Levels) -> Tensor:
        """Give the image itself."""
        return at_least_float32(x_0)

    def estimate(self, output: Tensor, x_t: Tensor, at: Levels) -> Denoised:
        """Take the output for x0_hat."""
        return Denoised(output, eps_from_x_0(x_t, output, at))

    def error_factor(self, at: Levels) -> Tensor:
        """Give 1."""
        return torch.ones_like(at.snr)

    @property
    def unknown_without_signal(self) -> str | None:
        """Tell that nothing is unknown."""
        return None


@dataclass(frozen=True)
class V:
    """Predict the velocity v = alpha * eps - sigma * x_0 (Salimans & Ho 2022, Sec. 4)."""

    def network_input(self, x_t: Tensor, at: Levels) -> tuple[Tensor, Tensor]:
        """Give x_t and its step themselves."""
        return x_t, at.step

    def target(self, x_0: Tensor, eps: Tensor, at: Levels) -> Tensor:
        """Give the velocity."""
        return v_from_x_0_eps(x_0, eps, at)

    def estimate(self, output: Tensor, x_t: Tensor, at: Levels) -> Denoised:
        """Solve for both: x_0 = alpha * x_t - sigma * v    eps = sigma * x_t + alpha * v    (Salimans & Ho 2022, App. D).

        Where variance is not preserved, both are divided by alpha**2 + sigma**2.
        """
        x0_hat, eps_hat = at.alpha * x_t - at.sigma * output, at.sigma * x_t + at.alpha * output
        return Denoised(x0_hat / at.power, eps_hat / at.power)

    def error_factor(self, at: Levels) -> Tensor:
        """Give (SNR + 1) * (alpha**2 + sigma**2): v_hat - v = -(alpha**2 + sigma**2) / sigma * (x0_hat - x_0)."""
        return (at.snr + 1.0) * at.power

    @property
    def unknown_without_signal(self) -> str | None:
        """Tell that nothing is unknown."""
        return None


@dataclass(frozen=True)
class FlowVelocity:
    """Predict the velocity of the straight path from image to noise, u = eps - x_0 (Lipman et al. 2023; Liu et al. 2023, Eq. 1).

    On the schedule Flow it is dx / dt without a shift. On another schedule it is that of the straight path between the same two:
    x_t = alpha * x_0 + sigma * eps and u make up both, as alpha + sigma is never 0.
    """

    def network_input(self, x_t: Tensor, at: Levels) -> tuple[Tensor, Tensor]:
        """Give x_t and its step themselves."""
        return x_t, at.step

    def target(self, x_0: Tensor, eps: Tensor, at: Levels) -> Tensor:
        """Give the velocity."""
        return at_least_float32(eps) - x_0

    def estimate(self, output: Tensor, x_t: Tensor, at: Levels) -> Denoised:
        """Solve for both: x_0 = (x_t - sigma * u) / (alpha + sigma)    eps = (x_t + alpha * u) / (alpha + sigma)."""
        whole = at.alpha + at.sigma
        return Denoised((x_t - at.sigma * output) / whole, (x_t + at.alpha * output) / whole)

    def error_factor(self, at: Levels) -> Tensor:
        """Give (alpha / sigma + 1)**2: u_hat - u = -(alpha / sigma + 1) * (x0_hat - x_0)."""
        return (at.alpha / at.sigma + 1.0) ** 2

    @property
    def unknown_without_signal(self) -> str | None:
        """Tell that nothing is unknown."""
        return None


class Preconditioning(NamedTuple):
    """Hold coefficients for x_t, [B, 1, 1, 1] each: x0_hat = c_skip * x_t + c_out * F(c_in * x_t, c_noise)."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor


@dataclass(frozen=True)
class Edm:
    """Precondition the network: D(x; sigma) = c_skip * x + c_out * F(c_in * x; c_noise) (Karras et al. 2022, Eq. 7).

    Karras et al. add noise to images that keep their scale, x_0 + ratio * eps with ratio = sigma / alpha. Ours shrink as they are
    noised, x_t = alpha * (x_0 + ratio * eps): what multiplies x_0 + ratio * eps in the paper is divided by alpha here, to multiply
    x_t, and every sampler takes such a network as it takes any other.

    Attributes:
        sigma_data: Standard deviation of the images in [-1, 1]; above 0.
    """

    sigma_data: float = 0.5

    def preconditioning(self, at: Levels) -> Preconditioning:
        """Scale the network so that its input and its target have variance 1 (Karras et al. 2022, Table 1 and App. B.6).

        variance = alpha**2 * sigma_data**2 + sigma**2        (of x_t, for images of variance sigma_data**2)
        c_skip = alpha * sigma_data**2 / variance
        c_out = sigma_data * sigma / sqrt(variance)
        c_in = 1 / sqrt(variance)

        With sigma_data = 1 the network predicts -v. At alpha = 1, no noise, c_skip is 1 and c_out is 0.
        """
        c_in = ((at.alpha * self.sigma_data) ** 2 + at.sigma**2).rsqrt()
        return Preconditioning(at.alpha * (self.sigma_data * c_in) ** 2, self.sigma_data * at.sigma * c_in, c_in)

    def network_input(self, x_t: Tensor, at: Levels) -> tuple[Tensor, Tensor]:
        """Give c_in * x_t and c_noise = log(sigma / alpha) / 4 (Karras et al. 2022, Table 1)."""
        return self.preconditioning(at).c_in * x_t, -0.25 * at.half_logsnr.flatten()

    def target(self, x_0: Tensor, eps: Tensor, at: Levels) -> Tensor:
        """Give F = (x_0 - c_skip * x_t) / c_out (Karras et al. 2022, Eq. 8)."""
        c_skip, c_out, _ = self.preconditioning(at)
        return (x_0 - c_skip * (at.alpha * x_0 + at.sigma * eps)) / c_out

    def estimate(self, output: Tensor, x_t: Tensor, at: Levels) -> Denoised:
        """Derive x_0 = c_skip * x_t + c_out * F (Karras et al. 2022, Eq. 7)."""
        c_skip, c_out, _ = self.preconditioning(at)
        x0_hat = c_skip * x_t + c_out * output
        return Denoised(x0_hat, eps_from_x_0(x_t, x0_hat, at))

    def error_factor(self, at: Levels) -> Tensor:
        """Give 1 / c_out**2."""
        return self.preconditioning(at).c_out ** -2

    @property
    def unknown_without_signal(self) -> str | None:
        """Tell that c_noise would be infinite."""
        return "the last step has an infinite noise level, which EDM cannot express"


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


def estimated(prediction: Prediction, output: Tensor, x_t: Tensor, at: Levels) -> Denoised:
    """Estimate the image and the noise from a network's output, in float32 or float64.

    Args:
        prediction: What the output is.
        output: The network's output, [B, C, H, W], of any floating dtype.
        x_t: What the network saw, shaped like output.
        at: The level of each image.
    Raises:
        ShapeError: If output and x_t differ in shape.
    """
    check_same_shape("the network's output", output, "x_t", x_t)
    return prediction.estimate(at_least_float32(output), at_least_float32(x_t), at)


def check_prediction(prediction: Prediction, schedule: Schedule) -> None:
    """Refuse what needs some signal in x_T where there is none.

    Raises:
        ScheduleError: If the schedule's terminal SNR is zero, and the prediction says nothing there.
    """
    reason = prediction.unknown_without_signal
    if reason is not None and schedule.at(schedule.timesteps - 1).signal == 0.0:
        raise ScheduleError(f"With zero terminal SNR {reason}.", f'Set objective.parameterization = "{_remedy(schedule)}".')


def _remedy(schedule: Schedule) -> str:
    return "v" if schedule.at(0).power == 1.0 else "flow"
