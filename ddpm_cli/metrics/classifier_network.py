"""Classify images of any size by a small convolutional network, whose last features a Fréchet distance can be measured with."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ddpm_cli.errors import ShapeError

DIMENSIONS = 64
SMALLEST_SIDE = 8
_STEM_CHANNELS = 24
_LAST_SIDE = 7


class Architecture(NamedTuple):
    """Hold all that the layers of a classifier follow from.

    Attributes:
        channels: Of the images.
        height: Of the images, at least 8 pixels.
        width: Of the images, at least 8 pixels.
        classes: Scores per image, at least 2.
    """

    channels: int
    height: int
    width: int
    classes: int


class ConvBlock(nn.Module):
    """Compute convolution, norm and SiLU, which is smooth: small changes of an image change its features a little.

    The normalisation is BatchNorm, not GroupNorm, because with fixed statistics it is a fixed affine map: it cannot hide from the
    features that an image has too little contrast. `fold` puts it into the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, in_channels, H, W] to [B, out_channels, H / stride, W / stride], rounded up."""
        return functional.silu(self.norm(self.conv(x)))

    def fold(self) -> None:
        """Fold the normalisation's running statistics into the convolution; the block must be in evaluation mode."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv, self.norm = fuse_conv_bn_eval(self.conv, self.norm), nn.Identity()


def require_size(height: int, width: int) -> None:
    """Refuse images that are too small for a classifier.

    Raises:
        ShapeError: If a side is below 8 pixels.
    """
    if min(height, width) < SMALLEST_SIDE:
        raise ShapeError(
            f"Images of {height}x{width} pixels are too small for a classifier: each side needs at least {SMALLEST_SIDE}.",
            "Use larger images.",
        )


class ClassifierNetwork(nn.Module):
    """Compute pairs of 3x3 convolutions, the first of each halving the image, until its shorter side has at most 7 pixels.

    Args:
        architecture: Shape of the images and number of classes.
    Raises:
        ShapeError: If a side of the images is below 8 pixels.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        channels, height, width, classes = architecture
        require_size(height, width)
        self.architecture = architecture
        self.blocks = nn.Sequential(*_blocks(channels, min(height, width)))
        self.head = nn.Linear(DIMENSIONS, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images in [-1, 1], [B, C, H, W], to features [B, 64] and logits [B, classes]."""
        features = self.blocks(x).mean(dim=(2, 3))
        return features, self.head(features)

    def fold(self) -> ClassifierNetwork:
        """Fold every normalisation away and stay in evaluation mode."""
        self.eval()
        for block in self.blocks:
            if isinstance(block, ConvBlock):
                block.fold()
        return self


def initialised(architecture: Architecture, seed: int = 0) -> ClassifierNetwork:
    """Make a new network, its weights drawn from the seed; the caller's random state stays as it was.

    Raises:
        ShapeError: If a side of the images is below 8 pixels.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Channels last is twice as fast on a CPU.
        return ClassifierNetwork(architecture).to(memory_format=torch.channels_last)


def _blocks(channels: int, side: int) -> list[ConvBlock]:
    width = _STEM_CHANNELS
    blocks = [ConvBlock(channels, width, 1)]
    while side > _LAST_SIDE:
        side = (side + 1) // 2
        wider = DIMENSIONS if side <= _LAST_SIDE else min(2 * width, DIMENSIONS)
        blocks += [ConvBlock(width, wider, 2), ConvBlock(wider, wider, 1)]
        width = wider
    return blocks
