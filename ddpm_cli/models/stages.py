"""Make the stages of the U-Net, and its levels on the way down and up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ddpm_cli.models.base import Block
from ddpm_cli.models.layers import Downsample, DownsamplePadding, Resampling, ResidualBlock, SelfAttention, Upsample

LevelResampling = Literal["convolution", "residual"]


@dataclass(frozen=True)
class StageOptions:
    """Hold what all stages have in common; the fields are those of `ResidualBlock`, `SelfAttention` and `Downsample`."""

    embedding_channels: int
    dropout: float
    scale_shift: bool
    norm_groups: int
    heads: int
    head_channels: int | None
    downsample_padding: DownsamplePadding
    resampling: LevelResampling


class Stage(Block):
    """Compute a residual block, followed by self-attention where asked for.

    x is [B, in_channels, H, W], the embedding [B, embedding_channels], the result [B, out_channels, H, W]. Where there is a skip,
    x and it have in_channels together.
    """

    def __init__(self, in_channels: int, out_channels: int, options: StageOptions, *, attention: bool) -> None:
        super().__init__()
        self.block = ResidualBlock(
            in_channels,
            out_channels,
            options.embedding_channels,
            dropout=options.dropout,
            scale_shift=options.scale_shift,
            norm_groups=options.norm_groups,
        )
        self.attention = (
            SelfAttention(out_channels, options.heads, options.norm_groups, options.head_channels) if attention else nn.Identity()
        )

    def compute(self, x: Tensor, embedding: Tensor, skip: Tensor | None = None) -> Tensor:
        """Map x, an embedding and perhaps a skip to the next feature maps."""
        whole = x if skip is None else torch.cat([x, skip], dim=1)
        result: Tensor = self.attention(self.block(whole, embedding))
        return result


class ResamplingBlock(Block):
    """Compute a residual block that halves or doubles H and W on its way, see `ResidualBlock`."""

    def __init__(self, channels: int, options: StageOptions, resampling: Resampling) -> None:
        super().__init__()
        self.block = ResidualBlock(
            channels,
            channels,
            options.embedding_channels,
            dropout=options.dropout,
            scale_shift=options.scale_shift,
            norm_groups=options.norm_groups,
            resampling=resampling,
        )

    def compute(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x [B, channels, H, W] and an embedding to feature maps of half or twice H and W."""
        result: Tensor = self.block(x, embedding)
        return result


class DownLevel(nn.Module):
    """Compute the stages of one resolution on the way down, then halve, except at the lowest.

    `skip_channels` lists the channels of each feature map that `forward` returns.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stages: int, options: StageOptions, *, attention: bool, halves: bool
    ) -> None:
        super().__init__()
        inputs = [in_channels, *[out_channels] * (stages - 1)]
        self.stages = nn.ModuleList(Stage(channels, out_channels, options, attention=attention) for channels in inputs)
        self.downsample = _halving(out_channels, options) if halves else None
        self.skip_channels = [out_channels] * (stages + halves)

    def forward(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        """List every feature map on the way, the last of which goes on downwards."""
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(x, embedding)
            features.append(x)
        if self.downsample is not None:
            features.append(_moved(self.downsample, x, embedding))
        return features


class UpLevel(nn.Module):
    """Compute the stages of one resolution on the way up, each fed a map from the way down, then double, except at the top."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        skip_channels: Sequence[int],
        options: StageOptions,
        *,
        attention: bool,
        doubles: bool,
    ) -> None:
        super().__init__()
        inputs = [in_channels, *[out_channels] * (len(skip_channels) - 1)]
        self.stages = nn.ModuleList(
            Stage(channels + skip, out_channels, options, attention=attention)
            for channels, skip in zip(inputs, skip_channels, strict=True)
        )
        self.upsample = _doubling(out_channels, options) if doubles else nn.Identity()

    def forward(self, x: Tensor, skips: Sequence[Tensor], embedding: Tensor) -> Tensor:
        """Map x [B, in_channels, H, W] and a skip [B, C_i, H, W] per stage to [B, out_channels, 2 H, 2 W] (H, W at the top)."""
        for stage, skip in zip(self.stages, skips, strict=True):
            x = stage(x, embedding, skip)
        return _moved(self.upsample, x, embedding)


def _halving(channels: int, options: StageOptions) -> nn.Module:
    if options.resampling == "residual":
        return ResamplingBlock(channels, options, "down")
    return Downsample(channels, options.downsample_padding)


def _doubling(channels: int, options: StageOptions) -> nn.Module:
    return ResamplingBlock(channels, options, "up") if options.resampling == "residual" else Upsample(channels)


def _moved(layer: nn.Module, x: Tensor, embedding: Tensor) -> Tensor:
    """X as the layer between two levels gives it, which reads the embedding if it is a residual block."""
    result: Tensor = layer(x, embedding) if isinstance(layer, ResamplingBlock) else layer(x)
    return result
