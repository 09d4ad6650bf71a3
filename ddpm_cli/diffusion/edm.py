"""The preconditioning of Karras et al. 2022 (EDM), for images noised as in DDPM.

Karras et al. add noise to images that keep their scale: x_0 + sigma * eps. Ours shrink as they are noised:

    x_t = sqrt(abar) * (x_0 + sigma * eps)    with sigma = sqrt((1 - abar) / abar)

What multiplies x_0 + sigma * eps in the paper is therefore divided by sqrt(abar) here, to multiply x_t; every sampler then takes
such a network as it takes any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ddpm_cli.diffusion.forward import extract
from ddpm_cli.diffusion.schedules import NoiseSchedule


@dataclass(frozen=True)
class Edm:
    """The parameterization D(x; sigma) = c_skip * x + c_out * F(c_in * x; c_noise) (Karras et al. 2022, Eq. 7).

    Attributes:
        sigma_data: Standard deviation of the images in [-1, 1]; above 0.
    """

    sigma_data: float = 0.5


class Preconditioning(NamedTuple):
    """Coefficients for x_t, [B, 1, 1, 1] each: x0_hat = c_skip * x_t + c_out * F(c_in * x_t, c_noise)."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor


def preconditioning(edm: Edm, x_t: Tensor, t: Tensor, schedule: NoiseSchedule) -> Preconditioning:
    """Scale the network so that its input and its target have variance 1 (Karras et al. 2022, Table 1 and App. B.6).

    variance = abar * sigma_data**2 + 1 - abar        (of x_t, for images of variance sigma_data**2)
    c_skip = sqrt(abar) * sigma_data**2 / variance
    c_out = sigma_data * sqrt(1 - abar) / sqrt(variance)
    c_in = 1 / sqrt(variance)

    With sigma_data = 1 the network predicts -v. At abar = 1, no noise, c_skip is 1 and c_out is 0.

    Args:
        edm: The parameterization.
        x_t: Images at step t, [B, C, H, W].
        t: Steps in [0, T), int64, [B].
        schedule: The noise schedule.
    Returns:
        The coefficients; float64 if x_t is, else float32.
    """
    signal, noise = extract(schedule, "sqrt_alphas_cumprod", t, x_t), extract(schedule, "sqrt_one_minus_alphas_cumprod", t, x_t)
    c_in = ((signal * edm.sigma_data) ** 2 + noise**2).rsqrt()
    return Preconditioning(signal * (edm.sigma_data * c_in) ** 2, edm.sigma_data * noise * c_in, c_in)


def noise_condition(x_t: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """What the network is told of the noise level (Karras et al. 2022, Table 1).

    c_noise = log(sigma) / 4

    Args:
        x_t: Images at step t, [B, C, H, W].
        t: Steps in [0, T), int64, [B].
        schedule: The noise schedule; its terminal SNR must not be zero.
    Returns:
        c_noise, [B]; float64 if x_t is, else float32.
    """
    return -0.25 * extract(schedule, "half_logsnr", t, x_t).flatten()
