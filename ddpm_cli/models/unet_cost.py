"""Tell what the parts of a U-Net take, from their sizes: nothing is computed, and no memory is taken."""

from __future__ import annotations

from torch import nn

from ddpm_cli.models.layers import SelfAttention, Upsample
from ddpm_cli.models.stages import Stage


def working_channels(stage: Stage) -> int:
    """Count channels of all feature maps that a stage holds at a time, those that it is given among them."""
    given, made = stage.block.norm_in.num_channels, stage.block.norm_out.num_channels
    attending = 2 * given + 8 * made if isinstance(stage.attention, SelfAttention) else 0
    return max(4 * given + made, 2 * given + 4 * made, attending)


def flops_at(module: nn.Module, pixels: int) -> int:
    """Count those of a module whose kernels all work at so many pixels; those of a doubling are 4x4 for nine numbers."""
    kernels = [inner for inner in module.modules() if isinstance(inner, nn.Conv2d | nn.Linear)]
    of_embedding = module.block.project.weight.numel() if isinstance(module, Stage) else 0  # once an image
    on_pixels = sum(kernel.weight.numel() for kernel in kernels) * (16 / 9 if isinstance(module, Upsample) else 1) - of_embedding
    return round(2 * pixels * on_pixels) + sum(4 * pixels**2 * inner.query.in_features for inner in _attentions(module))


def pairs_at(module: nn.Module, pixels: int) -> int:
    """Count pairs of pixels that attend to each other, for each head."""
    return sum(pixels**2 * inner.heads for inner in _attentions(module))


def _attentions(module: nn.Module) -> list[SelfAttention]:
    return [inner for inner in module.modules() if isinstance(inner, SelfAttention)]
