"""Tell what a pass through a network takes: nothing is computed, and no memory is taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn

from ddpm_cli.models.base import Denoiser
from ddpm_cli.models.cost import forward_flops
from ddpm_cli.models.layers import Downsample, SelfAttention, Upsample
from ddpm_cli.models.stages import DownLevel, Stage
from ddpm_cli.models.unet import UNet

FLOAT32 = 4


class PassCost(NamedTuple):
    """Hold the cost for one image, without gradients.

    Attributes:
        bytes: Of feature maps at the height of the pass, in float32; rather too many than too few.
        flops: Floating-point operations, one multiply-add as two; convolutions, linear layers and attention.
        pairs: Of pixels that attend to each other, for each head: exponentials, which count where heads are narrow.
    """

    bytes: int
    flops: int
    pairs: int


def pass_cost(network: Denoiser) -> PassCost:
    """Tell the cost of a pass: of a U-Net from its sizes, of another network from a pass on the meta device."""
    return _cost_of_unet(network) if isinstance(network, UNet) else _traced_cost(network)


def _traced_cost(network: Denoiser) -> PassCost:
    """Count all that modules without parts return, as if it were kept until the end; pairs are in the operations already."""
    returned = 0

    def count(_: nn.Module, inputs: object, output: object) -> None:
        nonlocal returned
        returned += output.numel() if isinstance(output, Tensor) else 0

    leaves = [module for module in network.modules() if not any(module.children())]
    handles = [module.register_forward_hook(count) for module in leaves]
    try:
        flops = forward_flops(network, (network.in_channels, *network.image_size))
    finally:
        for handle in handles:
            handle.remove()
    return PassCost(FLOAT32 * returned, flops, 0)


def _cost_of_unet(network: UNet) -> PassCost:
    """Reckon it from sizes; a trace of the memory and `forward_flops` say nearly the same, if the network can be afforded."""
    pixels = [height * width for height, width in network.feature_sizes()]
    located = list(_located(network, pixels))
    skips = sum(
        count * sum(level.skip_channels) for level, count in zip(network.down, pixels, strict=True) if isinstance(level, DownLevel)
    )
    working = max(count * _working_channels(module) for module, count in located if isinstance(module, Stage))
    ends = pixels[0] * (2 * network.conv_in.in_channels + network.conv_in.out_channels + 2 * network.conv_out.out_channels)
    flops = sum(_flops(module, count) for module, count in located)
    flops += 2 * pixels[0] * (network.conv_in.weight.numel() + network.conv_out.weight.numel())
    pairs = sum(count**2 * inner.heads for module, count in located for inner in _attentions(module))
    return PassCost(FLOAT32 * (skips + working + ends), flops, pairs)


def _located(network: UNet, pixels: list[int]) -> Iterator[tuple[nn.Module, int]]:
    """Stages, halvings and doublings, each with the pixels of the feature maps that it works on."""
    for level, count in zip(network.down, pixels, strict=True):
        yield from ((module, count) for module in level.modules() if isinstance(module, Stage))
        yield from ((module, count // 4) for module in level.modules() if isinstance(module, Downsample))
    yield from ((module, pixels[-1]) for module in (network.middle_in, network.middle_out))
    for level, count in zip(network.up, reversed(pixels), strict=True):
        yield from ((module, count) for module in level.modules() if isinstance(module, Stage | Upsample))


def _working_channels(stage: Stage) -> int:
    """Channels of all feature maps that a stage holds at a time, those that it is given among them."""
    given, made = stage.block.norm_in.num_channels, stage.block.norm_out.num_channels
    attending = 2 * given + 8 * made if isinstance(stage.attention, SelfAttention) else 0
    return max(4 * given + made, 2 * given + 4 * made, attending)


def _flops(module: nn.Module, pixels: int) -> int:
    """Of a module whose kernels all work at so many pixels; those of a doubling are 4x4 for nine numbers."""
    kernels = [inner for inner in module.modules() if isinstance(inner, nn.Conv2d | nn.Linear)]
    of_embedding = module.block.project.weight.numel() if isinstance(module, Stage) else 0  # once an image
    on_pixels = sum(kernel.weight.numel() for kernel in kernels) * (16 / 9 if isinstance(module, Upsample) else 1) - of_embedding
    return round(2 * pixels * on_pixels) + sum(4 * pixels**2 * inner.query.in_features for inner in _attentions(module))


def _attentions(module: nn.Module) -> list[SelfAttention]:
    return [inner for inner in module.modules() if isinstance(inner, SelfAttention)]
