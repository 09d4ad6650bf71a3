"""Exponential moving average of the weights (DDPM, App. B).

torch's AveragedModel keeps its count in a tensor and reads it at each update, which waits for the device; here Python counts.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from ddpm_cli.engine.sharding import own_parts

M = TypeVar("M", bound=nn.Module)


def ema_decay(updates: int, decay: float, warmup: bool) -> float:
    """Share of the old average that update number `updates` (0-based) keeps.

    A fixed 0.9999 would hold the random initial weights for thousands of steps; with warm-up the average is short at first:
    min(decay, (1 + n) / (10 + n)).
    """
    return min(decay, (1 + updates) / (10 + updates)) if warmup else decay


class Ema(Generic[M]):
    """A second model whose weights follow those of the first.

    Args:
        model: The model that is trained; it is copied once.
        decay: Share of the old average that each update keeps in the long run, in [0, 1).
        warmup: Start with a short average.
    """

    def __init__(self, model: M, decay: float, warmup: bool) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.warmup = warmup
        self.updates = 0

    @torch.no_grad()
    def update(self, parameters: Iterable[Tensor]) -> None:
        """Move the average towards `parameters`: ema = decay * ema + (1 - decay) * parameter."""
        decay = ema_decay(self.updates, self.decay, self.warmup)
        torch._foreach_lerp_(own_parts(self.model.parameters()), own_parts(parameters), 1.0 - decay)
        self.updates += 1
