"""Embed the noise level as a vector that every block reads, and places of a grid as vectors of their own."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ddpm_cli.models.layers import linear

LONGEST_PERIOD = 10_000.0
Frequencies = Literal["ddpm", "transformer"]
"""Whether the lowest frequency is 1 / 10000 (Ho et al. 2020) or the last before it (Vaswani et al. 2017)."""


def sinusoidal_embedding(t: Tensor, channels: int, frequencies: Frequencies = "ddpm") -> Tensor:
    """Embed t as sines and cosines at geometric frequencies (Vaswani et al. 2017, Sec. 3.5, in the form of Ho et al. 2020).

    half = channels // 2;  embedding = [sin(t * frequency), cos(t * frequency)]
    ddpm: frequency[i] = 10000 ** (-i / (half - 1))    transformer: frequency[i] = 10000 ** (-i / half)

    Float32 whatever autocast says: at t near 1000 a half-precision phase is off by several radians.

    Args:
        t: Noise levels, [B], int or float.
        channels: Length of the embedding, at least 4, or 2 with "transformer", whose only frequency is 1; the last entry of an odd
            one is 0.
        frequencies: "ddpm" or "transformer".
    Returns:
        Embedding in [-1, 1], float32, [B, channels].
    """
    half = channels // 2
    intervals = half - 1 if frequencies == "ddpm" else half
    exponents = torch.arange(half, dtype=torch.float32, device=t.device) / intervals
    phases = t.float()[:, None] * torch.exp(-math.log(LONGEST_PERIOD) * exponents)
    embedding = torch.cat([phases.sin(), phases.cos()], dim=1)
    return nn.functional.pad(embedding, (0, channels % 2))


def grid_embedding(rows: int, columns: int, channels: int, device: torch.device | None = None) -> Tensor:
    """Embed the places of a grid, half by its column and half by its row (Peebles & Xie 2023; Vaswani et al. 2017, Sec. 3.5).

    quarter = channels // 4;  frequency[i] = 10000 ** (-i / quarter)
    embedding = [sin(column * frequency), cos(column * frequency), sin(row * frequency), cos(row * frequency)]

    Args:
        rows: Of the grid.
        columns: Of the grid.
        channels: Length of the embedding, a multiple of 4.
        device: Of the result; torch's default if None.
    Returns:
        Embedding in [-1, 1], float32, [rows * columns, channels], row by row.
    """
    half = channels // 2
    of_rows = sinusoidal_embedding(torch.arange(rows, device=device), half, "transformer")[:, None].expand(rows, columns, half)
    of_columns = sinusoidal_embedding(torch.arange(columns, device=device), half, "transformer")[None].expand(rows, columns, half)
    return torch.cat([of_columns, of_rows], dim=2).flatten(0, 1)


class TimeEmbedding(nn.Module):
    """Embed t by sines and cosines, then Linear, SiLU, Linear (Ho et al. 2020, App. B).

    Args:
        channels: Length of the sinusoidal embedding, see there.
        embedding_channels: Length of the result.
        frequencies: See `sinusoidal_embedding`.
        scale: Factor of t before it is embedded, above 0.
    """

    def __init__(self, channels: int, embedding_channels: int, frequencies: Frequencies = "ddpm", scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.channels = channels
        self.frequencies: Frequencies = frequencies
        self.mlp = nn.Sequential(linear(channels, embedding_channels), nn.SiLU(), linear(embedding_channels, embedding_channels))

    def forward(self, t: Tensor) -> Tensor:
        """Embed noise levels: t [B], int or float -> [B, embedding_channels]."""
        scaled = t if self.scale == 1 else t.float() * self.scale
        embedding: Tensor = self.mlp(sinusoidal_embedding(scaled, self.channels, self.frequencies))
        return embedding
