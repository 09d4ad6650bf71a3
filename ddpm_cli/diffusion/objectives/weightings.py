"""Weight each noise level in the training loss.

Every prediction's squared error is the error of the image it implies, times a factor of its own, see `Prediction.error_factor`:

    eps: SNR    x0: 1    v: SNR + 1    EDM: 1 / c_out**2    flow: (alpha / sigma + 1)**2    with SNR = (alpha / sigma)**2

A weighting that is defined by what it does to the error of the image (Hang et al. 2023, Sec. 3.4) is therefore divided by that
factor, so that it means the same for each prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from torch import Tensor

from ddpm_cli.diffusion.forward import Levels
from ddpm_cli.diffusion.prediction import Prediction


@dataclass(frozen=True)
class MinSnr:
    """Weight the error of the image by min(SNR, gamma) (Hang et al. 2023, Eq. 8).

    Attributes:
        gamma: Above 0.
    """

    gamma: float = 5.0


@dataclass(frozen=True)
class Velocity:
    """Weight the error of the image so that it is that of the flow velocity u = eps - x_0 (Li & He 2025, JiT, Table 1).

    (alpha / sigma + 1)**2, which is 1 / sigma**2 on the flow path, as u = (x_t - x_0) / sigma there

    Attributes:
        least_sigma: sigma where it is smaller, above 0, so that images with little noise do not count without bound.
    """

    least_sigma: float = 0.05


Weighting = Literal["simple", "snr"] | MinSnr | Velocity
"""simple: each prediction's own squared error (DDPM, Eq. 14); snr: the error of the image times SNR, which is that of eps."""


def loss_weight(weighting: Weighting, prediction: Prediction, at: Levels) -> Tensor:
    """Tell what to multiply the squared error in the network's own space by.

    Args:
        weighting: "simple", "snr", MinSnr or Velocity.
        prediction: What the network predicts.
        at: The level of each image.
    Returns:
        Weights, [B].
    """
    match weighting:
        case "simple":
            return torch.ones_like(at.snr).flatten()
        case "snr":
            wanted = at.snr
        case MinSnr(gamma):
            wanted = at.snr.clamp(max=gamma)
        case Velocity(least_sigma):
            wanted = ((at.alpha + at.sigma) / at.sigma.clamp(min=least_sigma)) ** 2
        case _:
            assert_never(weighting)
    return (wanted / prediction.error_factor(at)).flatten()
