"""Count what a network costs: parameters and floating-point operations, known before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

FLOAT32 = 4


class PassCost(NamedTuple):
    """Hold the cost of a pass for one image, without gradients.

    Attributes:
        bytes: Of feature maps at the height of the pass, in float32; rather too many than too few.
        flops: Floating-point operations, one multiply-add as two; convolutions, linear layers and attention.
        pairs: Of pixels that attend to each other, for each head: exponentials, which count where heads are narrow.
    """

    bytes: int
    flops: int
    pairs: int


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


def traced_cost(model: nn.Module, image_shape: Sequence[int]) -> PassCost:
    """Count all that modules without parts return, as if it were kept until the end; pairs are in the operations already.

    Args:
        model: See `forward_flops`.
        image_shape: (C, H, W) of one image.
    """
    returned = 0

    def count(_: nn.Module, inputs: object, output: object) -> None:
        nonlocal returned
        returned += output.numel() if isinstance(output, Tensor) else 0

    leaves = [module for module in model.modules() if not any(module.children())]
    handles = [module.register_forward_hook(count) for module in leaves]
    try:
        flops = forward_flops(model, image_shape)
    finally:
        for handle in handles:
            handle.remove()
    return PassCost(FLOAT32 * returned, flops, 0)
