"""Tell when a run ends, and how its learning rate moves until then."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddpm_cli.results.data_change import FROM_THE_START, Since

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import TrainConfig
    from ddpm_cli.config.schema.optimizer import OptimizerConfig


@dataclass(frozen=True)
class Budget:
    """End a run by whichever of its limits comes first.

    Attributes:
        steps: Optimizer steps, or None.
        seconds: Time in training, or None.
    """

    steps: int | None
    seconds: float | None

    @classmethod
    def of(cls, train: TrainConfig, images: int, since: Since = FROM_THE_START) -> Budget:
        """Find the budget of a config for a training set of `images` images; epochs become whole steps, rounded up.

        Args:
            train: The section.
            images: That there are now.
            since: From where on there are so many.
        """
        limits = [] if train.steps is None else [train.steps]
        if train.epochs is not None:
            left = max(0.0, train.epochs - since.epochs)
            limits.append(max(1, since.step + math.ceil(left * images / train.batch_size)))
        return cls(min(limits, default=None), None if train.minutes is None else train.minutes * 60)

    def share(self, step: int, seconds: float) -> float:
        """Tell the part of the budget that is used after `step` steps and `seconds` of training, in [0, 1]."""
        by_steps = 0.0 if self.steps is None else step / self.steps
        by_time = 0.0 if self.seconds is None else seconds / self.seconds
        return min(1.0, max(by_steps, by_time))


def lr_factor(optimizer: OptimizerConfig, step: int, share: float) -> float:
    """Tell the learning rate of a step as a multiple of `optimizer.lr`.

    A pure function, so that no scheduler state has to be saved and an extended run follows the longer schedule at once.

    Args:
        optimizer: The section of the config.
        step: Steps taken before this one.
        share: Part of the budget used before this step, in [0, 1].
    """
    warmup = min(1.0, (step + 1) / optimizer.warmup_steps) if optimizer.warmup_steps else 1.0
    falling = {"constant": 1.0, "linear": 1.0 - share, "cosine": 0.5 * (1.0 + math.cos(math.pi * share))}[optimizer.decay]
    return warmup * (optimizer.final_lr_share + (1.0 - optimizer.final_lr_share) * falling)
