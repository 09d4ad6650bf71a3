"""Choose where a network's numbers lie in memory."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def place_network(network: M, device: torch.device) -> M:
    """Move a network to a device, in place, and lay its weights out as that computes fastest.

    With the channels last, pixel by pixel, convolutions are about a tenth faster on a CPU, and on CUDA tensor cores take no other
    order; feature maps follow the weights. Apple's kernels are made for whole channels.
    """
    layout = torch.contiguous_format if device.type == "mps" else torch.channels_last
    network.to(device).to(memory_format=layout)
    return network
