"""Detect steps that could not be taken, and losses that leap.

Everything is a pure function of the losses so far, and its memory lies in the checkpoint: a run that was resumed finds what one
that was never stopped would have found.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from ddpm_cli.results.events import IncidentKind

MAX_NON_FINITE_STEPS = 10
MAX_SKIPPED_STEPS = 50
"""Overflows included: while a gradient scaler looks for its scale, a step overflows now and then and is no failure."""

WINDOW = 200
"""Finite losses that are remembered."""
LEAST_LOSSES = 50
"""Losses that must be known before one is called a spike."""
LEAST_LEAP = 3.0
"""A smaller multiple of the median is never a spike."""
RECORD = 1.5
"""Nor is a smaller multiple of the largest."""
WIDEST = 1e9
"""Of losses that are spread further apart every one is ordinary."""
CALM_STEPS = 10
"""Ordinary steps in a row after which trouble is over."""


class Health:
    """Judge each step by what the steps before were like."""

    def __init__(self) -> None:
        self.non_finite_steps = 0
        self.trouble_since: int | None = None
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._non_finite_in_a_row = 0
        self._skipped_in_a_row = 0
        self._calm_steps = 0
        self._ordinary_loss = math.inf

    def judge(self, step: int, loss: float, *, taken: bool, scaled: bool) -> IncidentKind | None:
        """Tell what is wrong with a step, if anything is.

        Args:
            step: Its number, from 1.
            loss: The mean of its images' losses; may be infinite or NaN.
            taken: Whether the optimizer moved the weights.
            scaled: Whether a gradient scaler is at work: then a gradient that is not finite says that its scale was too high.
        """
        limit = self.spike_limit()
        kind = self._kind(loss, limit, taken, scaled)
        if math.isfinite(loss):
            self._losses.append(loss)
        self.non_finite_steps += kind == "non-finite"
        self._count_in_a_row(kind, taken)
        self._follow_trouble(step, loss, kind, limit)
        return kind

    def spike_limit(self) -> float:
        """Tell the loss above which a step is a spike, by the last losses.

        limit = max(median * max(3, (ninth decile / median)**4), 1.5 * largest)

        On a logarithmic scale, on which losses spread evenly, the first is four times as far up as the ninth decile: a multiple of
        the median alone would call every sixth step of L_vlb a spike, whose loss varies a hundredfold where batches are small.
        The second is for losses that are ordinary and rare, such as those of t = 0 in the bound of a learned schedule.
        """
        if len(self._losses) < LEAST_LOSSES:
            return math.inf
        ordered = sorted(self._losses)
        middle, decile = ordered[len(ordered) // 2], ordered[len(ordered) * 9 // 10]
        if middle <= 0:
            return math.inf
        return max(middle * max(LEAST_LEAP, min(decile / middle, WIDEST) ** 4), RECORD * ordered[-1])

    @property
    def has_diverged(self) -> bool:
        """Tell whether so many steps in a row could not be taken that no further one will be."""
        return self._non_finite_in_a_row >= MAX_NON_FINITE_STEPS or self._skipped_in_a_row >= MAX_SKIPPED_STEPS

    @property
    def skipped_in_a_row(self) -> int:
        """Count the steps without a change of the weights up to now."""
        return self._skipped_in_a_row

    def last_good_step(self, step: int) -> int:
        """Tell the last step whose weights are known to be good, after `step` steps.

        The weights after step n make the loss of step n + 1: without trouble it shows that they are good, and trouble that begins
        at n + 1 is already in them.
        """
        return step - 1 if self.trouble_since is None else self.trouble_since - 2

    @staticmethod
    def _kind(loss: float, limit: float, taken: bool, scaled: bool) -> IncidentKind | None:
        if not taken:
            return "overflow" if scaled and math.isfinite(loss) else "non-finite"
        return "spike" if loss > limit else None

    def _count_in_a_row(self, kind: IncidentKind | None, taken: bool) -> None:
        self._skipped_in_a_row = 0 if taken else self._skipped_in_a_row + 1
        self._non_finite_in_a_row = 0 if taken else self._non_finite_in_a_row + (kind == "non-finite")

    def _follow_trouble(self, step: int, loss: float, kind: IncidentKind | None, limit: float) -> None:
        """Trouble ends when the loss is again what it was before: one that stays high is no end of it."""
        if kind in ("non-finite", "spike"):
            if self.trouble_since is None:
                self.trouble_since, self._ordinary_loss = step, limit
            self._calm_steps = 0
        elif kind is None and self.trouble_since is not None:
            self._calm_steps = self._calm_steps + 1 if loss <= self._ordinary_loss else 0
            if self._calm_steps == CALM_STEPS:
                self.trouble_since = None
        elif self.has_diverged and self.trouble_since is None:
            self.trouble_since = step - self._skipped_in_a_row + 1

    def state(self) -> dict[str, Any]:
        """Give the state for a checkpoint."""
        return {
            "non_finite_steps": self.non_finite_steps,
            "health": {
                "losses": list(self._losses),
                "non_finite_in_a_row": self._non_finite_in_a_row,
                "skipped_in_a_row": self._skipped_in_a_row,
                "trouble_since": self.trouble_since,
                "calm_steps": self._calm_steps,
                "ordinary_loss": self._ordinary_loss,
            },
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave; checkpoints of earlier versions know the count alone."""
        self.non_finite_steps = state["non_finite_steps"]
        health = state.get("health")
        if health is None:
            return
        self._losses = deque(health["losses"], maxlen=WINDOW)
        self._non_finite_in_a_row = health["non_finite_in_a_row"]
        self._skipped_in_a_row = health["skipped_in_a_row"]
        self.trouble_since = health["trouble_since"]
        self._calm_steps = health["calm_steps"]
        self._ordinary_loss = health["ordinary_loss"]
