"""Average the weights while a model trains: with exponential decay (DDPM, App. B), or by a power of time.

torch's AveragedModel keeps its count in a tensor and reads it at each update, which waits for the device; here the device counts
and nobody reads.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from ddpm_cli.core.compute.sharding import own_parts
from ddpm_cli.training.averages.power import gamma_of_width

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


def power_weight(updates: Tensor, gamma: float) -> Tensor:
    """Give the share of the new weights in a power-function average after update number `updates` (0-based).

    1 - beta_t, beta_t = (1 - 1 / t)**(gamma + 1), t = updates + 1 (Karras et al. 2024, EDM2, Eq. 2): the first weights take the
    place of the initial ones, and an average at time t holds those of time tau with a share that grows as tau**gamma.

    Args:
        updates: int64, a scalar.
        gamma: At least 0, see `gamma_of_width`.
    Returns:
        float32, a scalar on the device of updates.
    """
    # Not 1 - beta, of which nothing is left when t is large.
    return -torch.expm1((gamma + 1.0) * torch.log1p(-1.0 / (updates + 1.0)))


class Average(ABC, Generic[M]):
    """Keep a second model whose weights follow those of the first.

    Args:
        model: The model that is trained; it is copied once.
        device: Where the models will be.
    """

    def __init__(self, model: M, device: torch.device | None = None) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.updates = torch.zeros((), dtype=torch.int64, device=device)

    @abstractmethod
    def share(self) -> Tensor:
        """Give the share of the new weights in the next update, a scalar on the device."""

    @cached_property
    def _parameters(self) -> list[Tensor]:
        """Those of the average, as they are once it has been spread over the processes."""
        return [*self.model.parameters()]

    @torch.no_grad()
    def update(self, parameters: Iterable[Tensor], taken: Tensor) -> None:
        """Move the average towards `parameters`: average = average + share * (parameter - average).

        Args:
            parameters: Those of the first model, all finite.
            taken: Whether the step that they come from was taken, a boolean scalar on their device; if not, nothing moves.
        """
        weight = self.share() * taken
        average = own_parts(self._parameters)
        distance = torch._foreach_sub(own_parts(parameters), average)
        torch._foreach_mul_(distance, weight)  # here, as the fast kernels of lerp take no scalar that lies on the device
        torch._foreach_add_(average, distance)
        self.updates += taken


class Ema(Average[M]):
    """Average with exponential decay.

    Args:
        model: See `Average`.
        decay: Share of the old average that each update keeps in the long run, in [0, 1).
        warmup: Start with a short average.
        device: See `Average`.
    """

    def __init__(self, model: M, decay: float, warmup: bool, device: torch.device | None = None) -> None:
        super().__init__(model, device)
        self.decay = decay
        self.warmup = warmup

    def share(self) -> Tensor:
        """Give `ema_weight` of the updates so far."""
        return ema_weight(self.updates, self.decay, self.warmup)


class PowerEma(Average[M]):
    """Average by a power of time (Karras et al. 2024, EDM2, Sec. 3.1).

    Args:
        model: See `Average`.
        width: Standard deviation of the average's profile over the training so far, as a share of that, in (0, 0.28].
        device: See `Average`.
    """

    def __init__(self, model: M, width: float, device: torch.device | None = None) -> None:
        super().__init__(model, device)
        self.width = width
        self.gamma = gamma_of_width(width)

    def share(self) -> Tensor:
        """Give `power_weight` of the updates so far."""
        return power_weight(self.updates, self.gamma)
