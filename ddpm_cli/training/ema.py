"""Average the weights with exponential decay (DDPM, App. B).

torch's AveragedModel keeps its count in a tensor and reads it at each update, which waits for the device; here the device counts
and nobody reads.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import cached_property
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from ddpm_cli.core.compute.sharding import own_parts

M = TypeVar("M", bound=nn.Module)


def ema_weight(updates: Tensor, decay: float, warmup: bool) -> Tensor:
    """Give the share of the new weights in the average after update number `updates` (0-based).

    A fixed decay of 0.9999 would hold the random initial weights for thousands of steps; with warm-up the average is short at
    first: 1 - min(decay, (1 + n) / (10 + n)) = max(1 - decay, 9 / (10 + n)).

    Args:
        updates: n, int64, a scalar.
        decay: Share of the old average that each update keeps in the long run, in [0, 1).
        warmup: Start with a short average.
    Returns:
        float32, a scalar on the device of updates.
    """
    rising = 9.0 / (10.0 + updates) if warmup else torch.zeros_like(updates, dtype=torch.float32)
    return rising.clamp_min(1.0 - decay)


class Ema(Generic[M]):
    """Keep a second model whose weights follow those of the first.

    Args:
        model: The model that is trained; it is copied once.
        decay: Share of the old average that each update keeps in the long run, in [0, 1).
        warmup: Start with a short average.
        device: Where the models will be.
    """

    def __init__(self, model: M, decay: float, warmup: bool, device: torch.device | None = None) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.warmup = warmup
        self.updates = torch.zeros((), dtype=torch.int64, device=device)

    @cached_property
    def _parameters(self) -> list[Tensor]:
        """Those of the average, as they are once it has been spread over the processes."""
        return [*self.model.parameters()]

    @torch.no_grad()
    def update(self, parameters: Iterable[Tensor], taken: Tensor) -> None:
        """Move the average towards `parameters`: ema = ema + weight * (parameter - ema).

        Args:
            parameters: Those of the first model, all finite.
            taken: Whether the step that they come from was taken, a boolean scalar on their device; if not, nothing moves.
        """
        weight = ema_weight(self.updates, self.decay, self.warmup) * taken
        average = own_parts(self._parameters)
        distance = torch._foreach_sub(own_parts(parameters), average)
        torch._foreach_mul_(distance, weight)  # here, as the fast kernels of lerp take no scalar that lies on the device
        torch._foreach_add_(average, distance)
        self.updates += taken
