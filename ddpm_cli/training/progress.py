"""Keep count of what a run has come to: its time, its losses, and the rows and the summary that tell of them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ddpm_cli.results.events import TrainProgress, TrainSummary
from ddpm_cli.runs.metrics_log import count_incidents, each_row
from ddpm_cli.training.logging.outlook import outlook
from ddpm_cli.training.trainer import finite

if TYPE_CHECKING:
    from ddpm_cli.results.outlook import NoLongerPaid
    from ddpm_cli.runs.run_directory import RunDirectory
    from ddpm_cli.training.trainer import Trainer

Row = dict[str, float | int | None]


class Progress:
    """Count the time and keep the losses of a run, over all its sessions.

    Args:
        trainer: Its trainer.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.after_step_is_due = False
        """Whether what is due after the last step is still to be done."""
        self.last_loss: float | None = None
        self.held_out_loss: float | None = None
        self.held_out_step = 0
        self.best_held_out_loss: float | None = None
        self.history: list[Row] = []
        self._seconds_before = 0.0
        self._started = time.monotonic()
        self._first_share = 0.0
        self._session_images = 0
        self._session_train_seconds = 0.0

    def begin(self) -> None:
        """Start the clock of this session."""
        self._started = time.monotonic()
        self._first_share = self._trainer.share

    def seconds(self) -> float:
        """Count seconds of training, over all sessions of the run."""
        return self._seconds_before + time.monotonic() - self._started

    @contextmanager
    def training_time(self) -> Iterator[None]:
        """Add the time of the block to that of training."""
        began = time.monotonic()
        yield
        self._session_train_seconds += time.monotonic() - began

    def count_step(self) -> None:
        """Count a step that was taken, after which something may be due."""
        self.after_step_is_due = True
        self._session_images += self._trainer.config.train.batch_size

    def images_per_second(self) -> float:
        """Divide the images by the time of steps, in this session."""
        return self._session_images / max(self._session_train_seconds, 1e-9)

    def report(self) -> TrainProgress:
        """Say how far this session is, and how long it will take."""
        trainer = self._trainer
        elapsed, gained = time.monotonic() - self._started, trainer.share - self._first_share
        left = elapsed * (1 - trainer.share) / gained if gained > 0 else None
        return TrainProgress(trainer.step, trainer.share, self.images_per_second(), left, trainer.lost)

    # ---------------------------------------------------------------------------------------------------------- losses

    def keep_held_out_loss(self, loss: float | None) -> None:
        """Keep the held-out loss of this step; None if it is not finite."""
        self.held_out_loss, self.held_out_step = loss, self._trainer.step
        known = [loss for loss in (self.best_held_out_loss, loss) if loss is not None]
        self.best_held_out_loss = min(known, default=None)

    def row(self, *, log: bool, held_out: bool) -> Row:
        """Make a row of metrics.jsonl.

        Args:
            log: Whether the training loss of the interval stands in it.
            held_out: Whether the held-out loss does.
        """
        trainer = self._trainer
        row: Row = {
            "step": trainer.step,
            "epoch": round(trainer.batches.epochs_at(trainer.step), 4),
            "images": trainer.step * trainer.config.train.batch_size,
            "seconds": round(self.seconds(), 3),
        }
        if log:
            self.last_loss = trainer.losses.mean("interval")
            row |= {"loss": self.last_loss, "lr": trainer.lr(), "grad_norm": finite(trainer.grad_norm)}
            if self._session_images:
                row["images_per_second"] = round(self.images_per_second(), 1)
        if held_out:
            row["held_out_loss"] = self.held_out_loss
        if trainer.health.non_finite_steps:
            row["non_finite_steps"] = trainer.health.non_finite_steps
        return row

    def epoch_is_full(self) -> bool:
        """Tell whether the last step ended an epoch."""
        step, epochs_at = self._trainer.step, self._trainer.batches.epochs_at
        return math.floor(epochs_at(step)) > math.floor(epochs_at(step - 1))

    def end_epoch(self) -> list[Row]:
        """Add a row to the history if an epoch is full; the last part of one is not kept, as the run may be extended.

        Returns:
            The history, this epoch's row last.
        """
        step, epochs, full = self._trainer.step, self._trainer.batches.epochs_at(self._trainer.step), self.epoch_is_full()
        row: Row = {
            "epoch": math.floor(epochs) if full else round(epochs, 4),
            "step": step,
            "loss": self._trainer.losses.mean("epoch"),
            "seconds": round(self.seconds(), 3),
        }
        if self.held_out_loss is not None:
            row |= {"held_out_loss": self.held_out_loss, "held_out_step": self.held_out_step}
        if not full:
            return [*self.history, row]
        self.history.append(row)
        self._trainer.losses.reset("epoch")
        return self.history

    def summary(self, run: RunDirectory, stopped: NoLongerPaid | None = None) -> TrainSummary:
        """Sum up how the run stands now; `stopped` is why `train.patience` stopped it, if it did."""
        trainer = self._trainer
        return TrainSummary(
            run=run.path,
            step=trainer.step,
            epochs=trainer.batches.epochs_at(trainer.step),
            images=trainer.step * trainer.config.train.batch_size,
            seconds=self.seconds(),
            images_per_second=self.images_per_second(),
            loss=self.last_loss,
            held_out_loss=self.held_out_loss,
            best_held_out_loss=self.best_held_out_loss,
            non_finite_steps=trainer.health.non_finite_steps,
            incidents=count_incidents(run.incidents_log),
            no_longer_paid=stopped,
            outlook=outlook(each_row(run.metrics_log), trainer.config),
        )

    def forget_best(self) -> None:
        """Let the next held-out loss be the best so far: the held-out images are others now."""
        self.best_held_out_loss = None

    # ------------------------------------------------------------------------------------------------------ checkpoints

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint keeps of it."""
        return {
            "seconds": self.seconds(),
            "after_step_is_due": self.after_step_is_due,
            "history": self.history,
            "last_loss": self.last_loss,
            "last_held_out_loss": self.held_out_loss,
            "best_held_out_loss": self.best_held_out_loss,
            "held_out_step": self.held_out_step,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take what `state` gave, in a run whose trainer is restored."""
        self._seconds_before = state["seconds"]
        self.after_step_is_due = state.get("after_step_is_due", False)
        self.history = list(state["history"])
        self.last_loss = state["last_loss"]
        self.held_out_loss = state["last_held_out_loss"]
        self.best_held_out_loss = state["best_held_out_loss"]
        self.held_out_step = state["held_out_step"]
        self._trainer.share = self._trainer.budget.share(self._trainer.step, self._seconds_before)
