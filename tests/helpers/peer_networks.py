"""Networks of other programs, written anew from what is known of their layers, with the names that their files have.

`tests/soak/import_peers.py` compares `OpenAiNetwork` with guided-diffusion's own. That of pytorch-ddpm was checked by reading it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUPS = 32


def waves(t: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Phases t * 10000 ** (-i / half) as sines and cosines, [B, channels / 2] each."""
    half = channels // 2
    rates = torch.tensor([10_000.0 ** (-place / half) for place in range(half)])
    phases = t.float().unsqueeze(1) * rates
    return phases.sin(), phases.cos()


def randomise(network: nn.Module, seed: int = 0) -> None:
    """Give all parameters that are trained some noise, those of layers that begin at zero too."""
    draws = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=draws)


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of one head over [B, C, N]."""
    scores = query.transpose(1, 2) @ key / math.sqrt(query.shape[1])
    return value @ scores.softmax(dim=-1).transpose(1, 2)


@dataclass(frozen=True)
class OpenAiSize:
    """What the programs' command says of a network."""

    channels: int = 32
    mult: tuple[int, ...] = (1, 2)
    blocks: int = 1
    rates: tuple[int, ...] = (2,)
    heads: int = 2
    head_channels: int | None = None
    new_order: bool = False
    scale_shift: bool = True
    residual: bool = False
    images: int = 3
    out: int = 3
    classes: int | None = None


class _OpenAiBlock(nn.Module):
    def __init__(self, size: OpenAiSize, before: int, after: int, resampling: str = "") -> None:
        super().__init__()
        self.size, self.resampling = size, resampling
        self.in_layers = nn.Sequential(nn.GroupNorm(GROUPS, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * size.channels, after * (2 if size.scale_shift else 1)))
        last = nn.Conv2d(after, after, 3, padding=1)
        self.out_layers = nn.Sequential(nn.GroupNorm(GROUPS, after), nn.SiLU(), nn.Dropout(0.0), last)
        if before != after:
            self.skip_connection = nn.Conv2d(before, after, 1)

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resampling == "down":
            return functional.avg_pool2d(x, 2)
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3) if self.resampling == "up" else x

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.in_layers[2](self._resampled(functional.silu(self.in_layers[0](x))))
        told = self.emb_layers(embedding)[..., None, None]
        if self.size.scale_shift:
            half = told.shape[1] // 2
            h = self.out_layers[0](h) * (1 + told[:, :half]) + told[:, half:]
        else:
            h = self.out_layers[0](h + told)
        x = self._resampled(x)
        return self.out_layers[3](functional.silu(h)) + (self.skip_connection(x) if hasattr(self, "skip_connection") else x)


class _OpenAiAttention(nn.Module):
    def __init__(self, size: OpenAiSize, channels: int) -> None:
        super().__init__()
        self.heads = channels // size.head_channels if size.head_channels else size.heads
        self.new_order = size.new_order
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        rows = self.qkv(self.norm(x).flatten(2))
        width = rows.shape[1] // (3 * self.heads)
        pieces = rows.split(width, dim=1)
        order = [[head, head + self.heads, head + 2 * self.heads] for head in range(self.heads)]
        legacy = [[3 * head, 3 * head + 1, 3 * head + 2] for head in range(self.heads)]
        heads = [attended(*(pieces[place] for place in places)) for places in (order if self.new_order else legacy)]
        return x + self.proj_out(torch.cat(heads, dim=1)).reshape(x.shape)


class _Resampling(nn.Module):
    """A convolution that halves ("op") or doubles ("conv")."""

    def __init__(self, channels: int, name: str) -> None:
        super().__init__()
        self.add_module(name, nn.Conv2d(channels, channels, 3, stride=2 if name == "op" else 1, padding=1))
        self.name = name

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        if self.name == "conv":
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return getattr(self, self.name)(x)


class OpenAiNetwork(nn.Module):
    """The network of improved-diffusion, and with head_channels, residual and new_order that of guided-diffusion."""

    def __init__(self, size: OpenAiSize) -> None:
        super().__init__()
        self.size = size
        width, count = size.channels, len(size.mult)
        self.time_embed = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        if size.classes:
            self.label_emb = nn.Embedding(size.classes, 4 * width)
        down: list[list[nn.Module]] = [[nn.Conv2d(size.images, width, 3, padding=1)]]
        now, left = width, [width]
        for level, multiple in enumerate(size.mult):
            for _ in range(size.blocks):
                down.append([_OpenAiBlock(size, now, multiple * width), *self._attention(level)])
                now = multiple * width
                left.append(now)
            if level < count - 1:
                down.append([_OpenAiBlock(size, now, now, "down") if size.residual else _Resampling(now, "op")])
                left.append(now)
        self.input_blocks = nn.ModuleList(nn.ModuleList(layers) for layers in down)
        middle = [_OpenAiBlock(size, now, now), _OpenAiAttention(size, now), _OpenAiBlock(size, now, now)]
        self.middle_block = nn.ModuleList(middle)
        up: list[list[nn.Module]] = []
        for level in reversed(range(count)):
            for _ in range(size.blocks + 1):
                up.append([_OpenAiBlock(size, now + left.pop(), size.mult[level] * width), *self._attention(level)])
                now = size.mult[level] * width
            if level:
                up[-1].append(_OpenAiBlock(size, now, now, "up") if size.residual else _Resampling(now, "conv"))
        self.output_blocks = nn.ModuleList(nn.ModuleList(layers) for layers in up)
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, now), nn.SiLU(), nn.Conv2d(now, size.out, 3, padding=1))

    def _attention(self, level: int) -> list[nn.Module]:
        channels = self.size.mult[level] * self.size.channels
        return [_OpenAiAttention(self.size, channels)] if 2**level in self.size.rates else []

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        sines, cosines = waves(t, self.size.channels)
        embedding = self.time_embed(torch.cat([cosines, sines], dim=1))
        if labels is not None:
            embedding = embedding + self.label_emb(labels)
        h, kept = self.input_blocks[0][0](x), []
        kept.append(h)
        for layers in self.input_blocks[1:]:
            for layer in layers:
                h = layer(h, embedding)
            kept.append(h)
        for layer in self.middle_block:
            h = layer(h, embedding)
        for layers in self.output_blocks:
            h = torch.cat([h, kept.pop()], dim=1)
            for layer in layers:
                h = layer(h, embedding)
        return self.out(h)


class _HoBlock(nn.Module):
    def __init__(self, before: int, after: int, width: int, attention: bool) -> None:
        super().__init__()
        self.block1 = nn.Sequential(nn.GroupNorm(GROUPS, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.temb_proj = nn.Sequential(nn.SiLU(), nn.Linear(width, after))
        last = nn.Conv2d(after, after, 3, padding=1)
        self.block2 = nn.Sequential(nn.GroupNorm(GROUPS, after), nn.SiLU(), nn.Dropout(0.0), last)
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        self.attn = _HoAttention(after) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.block1(x) + self.temb_proj(embedding)[..., None, None]
        return self.attn(self.block2(h) + self.shortcut(x))


class _HoAttention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(GROUPS, channels)
        for name in ("proj_q", "proj_k", "proj_v", "proj"):
            self.add_module(name, nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.group_norm(x)
        mixed = attended(self.proj_q(h).flatten(2), self.proj_k(h).flatten(2), self.proj_v(h).flatten(2))
        return x + self.proj(mixed.reshape(x.shape))


class _HoResampling(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Conv2d(channels, channels, 3, stride=stride, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        doubles = self.main.stride == (1, 1)
        return self.main(x.repeat_interleave(2, 2).repeat_interleave(2, 3) if doubles else x)


class PytorchDdpmNetwork(nn.Module):
    """The network of pytorch-ddpm."""

    def __init__(self, steps: int, channels: int, mult: Sequence[int], attention: Sequence[int], blocks: int) -> None:
        super().__init__()
        width, levels = 4 * channels, len(mult)
        table = torch.stack(waves(torch.arange(steps), channels), dim=2).flatten(1)  # sine and cosine side by side
        self.time_embedding = nn.Module()
        self.time_embedding.timembedding = nn.Sequential(
            nn.Embedding.from_pretrained(table), nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.downblocks, self.upblocks = nn.ModuleList(), nn.ModuleList()
        now, left = channels, [channels]
        for level, multiple in enumerate(mult):
            for _ in range(blocks):
                self.downblocks.append(_HoBlock(now, channels * multiple, width, level in attention))
                now = channels * multiple
                left.append(now)
            if level < levels - 1:
                self.downblocks.append(_HoResampling(now, 2))
                left.append(now)
        self.middleblocks = nn.ModuleList([_HoBlock(now, now, width, True), _HoBlock(now, now, width, False)])
        for level in reversed(range(levels)):
            for _ in range(blocks + 1):
                self.upblocks.append(_HoBlock(now + left.pop(), channels * mult[level], width, level in attention))
                now = channels * mult[level]
            if level:
                self.upblocks.append(_HoResampling(now, 1))
        self.tail = nn.Sequential(nn.GroupNorm(GROUPS, now), nn.SiLU(), nn.Conv2d(now, 3, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        embedding = self.time_embedding.timembedding(t)
        h = self.head(x)
        kept = [h]
        for layer in self.downblocks:
            h = layer(h, embedding)
            kept.append(h)
        for layer in self.middleblocks:
            h = layer(h, embedding)
        for layer in self.upblocks:
            h = layer(torch.cat([h, kept.pop()], dim=1) if isinstance(layer, _HoBlock) else h, embedding)
        return self.tail(h)
