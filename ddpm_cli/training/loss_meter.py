"""Average the losses of the steps of an interval and of an epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SPANS = ("interval", "epoch")


class LossMeter:
    """Add up the losses of the steps, once for each span."""

    def __init__(self) -> None:
        self.sums = dict.fromkeys(SPANS, 0.0)
        self.steps = dict.fromkeys(SPANS, 0)

    def add(self, loss: float) -> None:
        """Count a step's loss; one that is not finite would make the means so, and its step is counted elsewhere."""
        if not math.isfinite(loss):
            return
        for span in SPANS:
            self.sums[span] += loss
            self.steps[span] += 1

    def mean(self, span: str) -> float | None:
        """Average the loss of the steps whose loss was finite, None if there were none."""
        return self.sums[span] / self.steps[span] if self.steps[span] else None

    def reset(self, span: str) -> None:
        """Begin a span anew."""
        self.sums[span], self.steps[span] = 0.0, 0

    def state(self) -> dict[str, Any]:
        """Give the state for a checkpoint."""
        return {"loss_sums": dict(self.sums), "loss_steps": dict(self.steps)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        for span in SPANS:
            self.sums[span] = state["loss_sums"][span]
            self.steps[span] = state["loss_steps"][span]
