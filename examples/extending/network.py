"""Add a network: `--set model=convnet`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from ddpm_cli.config.schema.model import NetworkBase
from ddpm_cli.models.base import Block, Denoiser
from ddpm_cli.models.embeddings import TimeEmbedding


class ConvNetConfig(NetworkBase):
    """Stack residual convolutions at one resolution, for small images."""

    kind: Literal["convnet"] = "convnet"
    channels: int = Field(32, ge=8, le=4096, multiple_of=8, description="Channels of all feature maps.")
    depth: int = Field(4, ge=1, le=64, description="Residual blocks; they look twice as far each, up to 8 pixels.")

    def build(self, image_shape: tuple[int, int, int], out_channels: int) -> Denoiser:
        """Build the network."""
        return ConvNet(image_shape, out_channels, self.channels, self.depth, self.resolved_classes())


class ResidualConv(Block):
    """Add a convolution, told of the noise level, to what it sees."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.norm, self.level = nn.GroupNorm(8, channels), nn.Linear(channels, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)

    def compute(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x [B, channels, H, W] and an embedding [B, channels] to the like of x."""
        seen = nn.functional.silu(self.norm(x) + self.level(embedding)[:, :, None, None])
        result: Tensor = x + self.conv(seen)
        return result


class ConvNet(Denoiser):
    """Predict at the resolution of the images."""

    def __init__(self, shape: tuple[int, int, int], out_channels: int, channels: int, depth: int, classes: int | None) -> None:
        super().__init__(in_channels=shape[0], image_size=shape[1:], num_classes=classes)
        self.time = TimeEmbedding(channels, channels)
        self.labels = None if classes is None else nn.Embedding(classes + 1, channels)
        self.first = nn.Conv2d(shape[0], channels, 3, padding=1)
        self.body = nn.ModuleList(ResidualConv(channels, 2 ** (i % 4)) for i in range(depth))
        self.last = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predict from x [B, C, H, W], levels t [B] and labels [B]: [B, out_channels, H, W]."""
        embedding = self.time(t)
        if self.labels is not None:
            null = t.new_full(t.shape, self.num_classes or 0).long()
            embedding = embedding + self.labels(null if labels is None else labels)
        h = self.first(x)
        for block in self.body:
            h = block(h, embedding)
        result: Tensor = self.last(h)
        return result
