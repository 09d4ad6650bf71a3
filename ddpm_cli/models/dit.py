"""Predict from a noisy image, its noise level and perhaps its class, by a transformer on patches (Peebles & Xie 2023, DiT)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_cli.errors import ConfigError
from ddpm_cli.models.base import ImageAxis
from ddpm_cli.models.conditioned import Conditioned
from ddpm_cli.models.cost import FLOAT32, PassCost
from ddpm_cli.models.embeddings import TimeEmbedding, grid_embedding
from ddpm_cli.models.layers import linear, zeroed
from ddpm_cli.models.transformer import TransformerBlock, TransformerOptions, modulated

TIME_CHANNELS = 256
"""Sines and cosines that the noise level is embedded as (Peebles & Xie 2023, Sec. 4)."""
REGISTER_STD = 0.02
COORDINATES = 4
"""A width is divided into sines and cosines of columns and of rows."""


class DiT(Conditioned):
    """Predict by a transformer on square patches of images of one size (Peebles & Xie 2023).

    tokens = patch_in(x) + positions;  tokens = block(tokens, embedding), `depth` times
    result = patches of linear_out(modulated(tokens, shift, scale)),  shift, scale = modulation_out(silu(embedding))

    Positions are fixed, see `grid_embedding`, and no part of the weights: these fit images of any size. All that ends a branch is 0
    at first, and the output of a new network exactly 0.

    Args:
        in_channels: Channels of x.
        image_size: (H, W) of x, multiples of patch_size.
        patch_size: Side of a patch in pixels.
        width: Channels of a token, a multiple of 4 and of heads.
        depth: Blocks.
        heads: Heads of each self-attention.
        mlp_ratio: Channels inside a block's perceptron as a multiple of the width.
        registers: Learned tokens that no patch stands behind (Darcet et al. 2024), which every block sees and none of the output.
        dropout: Dropout probability in the blocks, in [0, 1).
        out_channels: Channels of the result; those of x if None.
        num_classes: See `Conditioned`.
    Raises:
        ConfigError: If patches do not divide the images, or heads the width, or if the width is no multiple of 4.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: tuple[int, int],
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        registers: int,
        dropout: float,
        out_channels: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        _check_patches(image_size, patch_size)
        _check_width(width, heads)
        super().__init__(
            in_channels=in_channels,
            image_size=image_size,
            num_classes=num_classes,
            time_embedding=TimeEmbedding(TIME_CHANNELS, width),
            embedding_channels=width,
        )
        self.stateless = dropout == 0
        self.patch_size, self.out_channels = patch_size, out_channels or in_channels
        self.options = TransformerOptions(width, heads, max(1, round(mlp_ratio * width)), dropout)
        rows, columns = (side // patch_size for side in image_size)
        self.grid = rows, columns
        self.patch_in = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)
        nn.init.xavier_uniform_(self.patch_in.weight.view(width, -1))
        nn.init.zeros_(self.patch_in.bias)  # type: ignore[arg-type]  # there is a bias
        self.registers = nn.Parameter(REGISTER_STD * torch.randn(registers, width)) if registers else None
        self.blocks = nn.ModuleList(TransformerBlock(self.options) for _ in range(depth))
        self.modulation_out = zeroed(linear(width, 2 * width))
        self.linear_out = zeroed(linear(width, self.out_channels * patch_size**2))

    @property
    def tokens(self) -> int:
        """Count tokens of an image, registers among them."""
        return self.grid[0] * self.grid[1] + (0 if self.registers is None else len(self.registers))

    def image_axes(self) -> Mapping[str, ImageAxis]:
        """Say how the first layer reads patches, and the last one writes them."""
        writes = ImageAxis(0, self.in_channels, self.patch_size**2, self.out_channels // self.in_channels)
        return {"patch_in.weight": ImageAxis(1, self.in_channels), "linear_out.weight": writes, "linear_out.bias": writes}

    def pass_cost(self) -> PassCost:
        """Reckon it from sizes; a trace of the memory and `forward_flops` say nearly the same, if the network can be afforded."""
        width, hidden, tokens = self.options.width, self.options.hidden, self.tokens
        pixels, depth = self.image_size[0] * self.image_size[1], len(self.blocks)
        held = tokens * (2 * width + max(6 * width, width + 2 * hidden)) + 12 * width
        ends = pixels * (self.in_channels + 2 * self.out_channels)
        of_token = 4 * width**2 + 2 * width * hidden + 2 * tokens * width
        of_image = (TIME_CHANNELS + width + 6 * width * depth + 2 * width) * width
        of_pixels = pixels * width * (self.in_channels + self.out_channels)
        flops = 2 * (depth * tokens * of_token + of_image + of_pixels)
        return PassCost(FLOAT32 * (held + ends), flops, depth * self.options.heads * tokens**2)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None, augmentation: Tensor | None = None) -> Tensor:
        """Predict from noisy images, their noise levels, their classes and how they were augmented.

        Args:
            x: Noisy images x_t, [B, C, H, W].
            t: Noise levels, [B], int or float.
            labels: Classes in [0, num_classes], int64, [B]; None stands for the null label.
            augmentation: See `take_augmentation`, [B, size]; None stands for 0.
        Returns:
            Prediction, [B, out_channels, H, W].
        Raises:
            ShapeError: If the images have another size or other channels than the network was built for, or if there are labels or
                an augmentation and it was built for none.
        """
        self.check_images(x)
        embedding = self.embed(t, labels, augmentation)
        h = self._read(x)
        for block in self.blocks:
            h = block(h, embedding)
        return self._written(h, embedding)

    def _read(self, x: Tensor) -> Tensor:
        """All tokens of images, [B, N, width], the registers first."""
        # Not kept: a stranger's file may name images of any size, and is to take no memory before it is known how much.
        positions = grid_embedding(*self.grid, self.options.width, x.device)
        patches = self.patch_in(x).flatten(2).transpose(1, 2) + positions
        return patches if self.registers is None else torch.cat([self.registers.expand(x.shape[0], -1, -1), patches], dim=1)

    def _written(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Images of the tokens that patches stand behind."""
        shift, scale = self.modulation_out(functional.silu(embedding))[:, None].chunk(2, dim=-1)
        patches = h if self.registers is None else h[:, len(self.registers) :]
        pixels = self.linear_out(modulated(patches, shift, scale)).transpose(1, 2)
        return functional.pixel_shuffle(pixels.unflatten(2, self.grid), self.patch_size)


def _check_patches(image_size: tuple[int, int], patch_size: int) -> None:
    height, width = image_size
    if height % patch_size or width % patch_size:
        sides = [side for side in range(1, min(height, width) + 1) if height % side == width % side == 0]
        raise ConfigError(
            f"model.patch_size ({patch_size}) does not divide images of {height}x{width}.",
            f"Choose from {', '.join(map(str, sides))}, or let data.size be multiples of {patch_size}.",
        )


def _check_width(width: int, heads: int) -> None:
    if width % heads:
        raise ConfigError(f"model.heads ({heads}) does not divide model.width ({width}).", f"Choose a divisor of {width}.")
    if width % COORDINATES:
        raise ConfigError(
            f"model.width ({width}) is no multiple of {COORDINATES}, which the positions of patches need.",
            f"Set it to {width + -width % COORDINATES}, and model.heads to a divisor of that.",
        )
