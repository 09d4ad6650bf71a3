"""Count what a network costs: parameters and floating-point operations, known before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode


def parameter_count(model: nn.Module) -> int:
    """Count trained parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def forward_flops(model: nn.Module, image_shape: Sequence[int]) -> int:
    """Count FLOPs of the forward pass for one image, with one multiply-add as two.

    Convolutions, linear layers and attention count; norms, activations and additions do not, as is usual. Nothing is computed
    and no memory is taken: the weights are replaced by shapes on the meta device.

    Args:
        model: Denoiser called as model(x, t).
        image_shape: (C, H, W) of one image.
    """
    shapes = {name: tensor.to("meta") for name, tensor in chain(model.named_parameters(), model.named_buffers())}
    x = torch.empty(1, *image_shape, device="meta")
    t = torch.zeros(1, dtype=torch.int64, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        functional_call(model, shapes, (x, t))
    return int(counter.get_total_flops())
