"""How much each noise level counts in the training loss.

Every parameterization's squared error is the error of the image it implies, times a factor of its own:

    eps: SNR    x0: 1    v: SNR + 1    EDM: 1 / c_out**2    with SNR = abar / (1 - abar)

A weighting that is defined by what it does to the error of the image (Hang et al. 2023, Sec. 3.4) is therefore divided by that
factor, so that it means the same for each parameterization.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from torch import Tensor

from ddpm_cli.diffusion.edm import Edm, preconditioning
from ddpm_cli.diffusion.forward import extract
from ddpm_cli.diffusion.parameterization import Parameterization
from ddpm_cli.diffusion.schedules import NoiseSchedule


@dataclass(frozen=True)
class MinSnr:
    """The error of the image times min(SNR, gamma) (Hang et al. 2023, Eq. 8).

    Attributes:
        gamma: Above 0.
    """

    gamma: float = 5.0


Weighting = Literal["simple", "snr"] | MinSnr
"""simple: each parameterization's own squared error (DDPM, Eq. 14); snr: the error of the image times SNR, which is that of eps."""


def loss_weight(weighting: Weighting, kind: Parameterization, x_0: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """What to multiply the squared error in the network's own space by.

    Args:
        weighting: "simple", "snr" or MinSnr.
        kind: What the network predicts.
        x_0: Images, [B, C, H, W]; give the device and the dtype.
        t: Steps in [0, T), int64, [B].
        schedule: The noise schedule.
    Returns:
        Weights, [B]; float64 if x_0 is, else float32.
    """
    snr = extract(schedule, "snr", t, x_0)
    match weighting:
        case "simple":
            return torch.ones_like(snr).flatten()
        case "snr":
            wanted = snr
        case MinSnr(gamma):
            wanted = snr.clamp(max=gamma)
        case _:
            assert_never(weighting)
    return (wanted / _factor(kind, x_0, t, schedule, snr)).flatten()


def _factor(kind: Parameterization, x_0: Tensor, t: Tensor, schedule: NoiseSchedule, snr: Tensor) -> Tensor:
    match kind:
        case "eps":
            return snr
        case "x0":
            return torch.ones_like(snr)
        case "v":
            return snr + 1.0
        case Edm():
            return preconditioning(kind, x_0, t, schedule).c_out ** -2
    assert_never(kind)
