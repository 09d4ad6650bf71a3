"""Keep count of how a run goes: its time, its losses, their history by epoch, and the best of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ddpm_cli.metrics.registry import direction_of

Row = dict[str, float | int | None]


@dataclass
class Progress:
    """Hold what a run has come to besides its weights.

    Attributes:
        seconds_before: Of training, in earlier sessions.
        started: When this session began, on the monotonic clock.
        session_images: Images that this session trained on.
        session_train_seconds: Of steps alone, in this session.
        history: A row for each full epoch.
        last_loss: Mean of the last interval that was logged.
        held_out_loss: The last one.
        held_out_step: When it was measured.
        best_held_out_loss: The lowest one.
        best_saved_score: Of the best checkpoint, see checkpoint.best_by.
    """

    seconds_before: float = 0.0
    started: float = field(default_factory=time.monotonic)
    session_images: int = 0
    session_train_seconds: float = 0.0
    history: list[Row] = field(default_factory=list)
    last_loss: float | None = None
    held_out_loss: float | None = None
    held_out_step: int = 0
    best_held_out_loss: float | None = None
    best_saved_score: float | None = None

    def seconds(self) -> float:
        """Count seconds of training, over all sessions of the run."""
        return self.seconds_before + time.monotonic() - self.started

    @contextmanager
    def training_time(self) -> Iterator[None]:
        """Add the time of the block to that of steps."""
        began = time.monotonic()
        yield
        self.session_train_seconds += time.monotonic() - began

    def images_per_second(self) -> float:
        """Divide this session's images by the time of its steps."""
        return self.session_images / max(self.session_train_seconds, 1e-9)

    def seconds_left(self, share: float, first_share: float) -> float | None:
        """Estimate the time until the budget is used up, of which this session began at a share; None if it has not moved."""
        gained = share - first_share
        return (time.monotonic() - self.started) * (1 - share) / gained if gained > 0 else None

    def keep_held_out_loss(self, loss: float | None, step: int) -> None:
        """Remember a held-out loss; None for one that was not finite."""
        self.held_out_loss, self.held_out_step = loss, step
        known = [loss for loss in (self.best_held_out_loss, loss) if loss is not None]
        self.best_held_out_loss = min(known, default=None)

    def has_improved(self, score: float | None, best_by: str) -> bool:
        """Tell whether a score, of the metric that the best checkpoint is chosen by, is the best so far."""
        if score is None or self.best_saved_score is None:
            return score is not None
        return score > self.best_saved_score if direction_of(best_by) == "higher" else score < self.best_saved_score

    def state(self) -> dict[str, Any]:
        """Give the state for a checkpoint, without the time."""
        return {
            "history": self.history,
            "last_loss": self.last_loss,
            "last_held_out_loss": self.held_out_loss,
            "best_held_out_loss": self.best_held_out_loss,
            "held_out_step": self.held_out_step,
            "best_saved_loss": self.best_saved_score,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state from a checkpoint, with the time."""
        self.seconds_before = state["seconds"]
        self.history = list(state["history"])
        self.last_loss, self.held_out_loss = state["last_loss"], state["last_held_out_loss"]
        self.best_held_out_loss, self.held_out_step = state["best_held_out_loss"], state["held_out_step"]
        self.best_saved_score = state["best_saved_loss"]
