"""Save a run while it trains: what its last steps came to, whether its folder is in place, and its checkpoints."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from ddpm_cli.errors import OutputError
from ddpm_cli.metrics.registry import in_training
from ddpm_cli.results.events import CheckpointSaved
from ddpm_cli.runs.checkpoints import save_checkpoint
from ddpm_cli.runs.launch_record import launch
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.training.averages.snapshots import is_snapshot_step, joined, save_snapshot
from ddpm_cli.training.divergence import end_diverged
from ddpm_cli.training.patience.watch import EVALUATIONS, PATIENCE
from ddpm_cli.training.state import restore_training, training_state, training_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from ddpm_cli.data.images import Dataset
    from ddpm_cli.results.events import Listener
    from ddpm_cli.runs.checkpoints import Checkpoint
    from ddpm_cli.runs.held_folder import HeldFolder
    from ddpm_cli.training.patience.watch import Watch
    from ddpm_cli.training.progress import Progress
    from ddpm_cli.training.trainer import Trainer


class Saver:
    """Save a run in its folder, and go on from what was saved; all processes call it together, and the main one writes.

    Args:
        trainer: Of the run.
        progress: What it has come to.
        watch: The evaluations that `train.patience` looks at.
        dataset: Its images.
        run: Where it is kept.
        config_toml: The config as it is kept in checkpoints.
        on_event: Told of checkpoints; on the main process alone.
        held: The folder of the run, on the process that writes to it; None on others.
    """

    def __init__(
        self,
        trainer: Trainer,
        progress: Progress,
        watch: Watch,
        dataset: Dataset,
        run: RunDirectory,
        config_toml: str,
        on_event: Listener,
        held: HeldFolder | None,
    ) -> None:
        self._trainer, self._progress, self._watch, self._run, self._config_toml = trainer, progress, watch, run, config_toml
        self._on_event, self._held = on_event, held
        self._about_data: dict[str, Any] = {"data_sha256": dataset.sha256, "class_names": list(dataset.train.class_names)}
        self._about_data |= dataset.scale.facts()
        if trainer.batches.since.step:
            self._about_data["data_since"] = trainer.batches.since._asdict()
        self._settings = trainer.config.checkpoint
        self._best_score: float | None = None
        self.saved_step = 0

    def settle(self) -> None:
        """Wait for what the last steps came to, which all that is written down tells of.

        Raises:
            DivergedError: See `end_if_diverged`.
        """
        with self._progress.training_time():
            self._trainer.settle()
        self.end_if_diverged()

    def end_if_diverged(self) -> None:
        """Go back to the last good checkpoint if no step could be taken for several steps in a row.

        Raises:
            DivergedError: If so, see `end_diverged`.
        """
        if self._trainer.health.has_diverged:
            self._require_folder()
            end_diverged(self._run, self._trainer, self._on_event)

    def save(self, score: float | None) -> None:
        """Write a checkpoint; `score` is what the best is chosen by (checkpoint.best_by), at this very step.

        It is None if it was not measured or not finite; such a checkpoint is never the best.
        """
        best = self.has_improved(score)
        if best:
            self._best_score = score
        tensors = self._tensors()
        if self._trainer.accelerator.is_main_process:
            self._require_folder()
            saved = self._write(self._run, tensors, best=best and self._settings.keep_best)
            self._on_event(CheckpointSaved(saved, self._trainer.step))
        self.saved_step = self._trainer.step
        self._trainer.accelerator.wait_for_everyone()

    def keep_averages(self) -> None:
        """Write a snapshot of the power-function averages, if there are any and one is due."""
        trainer = self._trainer
        if not trainer.averages or not is_snapshot_step(trainer.step):
            return
        tensors = joined(trainer.averages, keep=trainer.accelerator.is_main_process)
        if trainer.accelerator.is_main_process:
            self._require_folder()
            save_snapshot(self._run, trainer.step, trainer.averages, tensors)

    def has_improved(self, score: float | None) -> bool:
        """Tell whether a score is the best of all checkpoints so far."""
        if score is None or self._best_score is None:
            return score is not None
        higher = self._settings.best_by in in_training() and in_training()[self._settings.best_by].direction == "higher"
        return score > self._best_score if higher else score < self._best_score

    def restore(self, checkpoint: Checkpoint) -> None:
        """Let a fresh run go on from a checkpoint.

        Raises:
            CheckpointError: If it holds another architecture.
        """
        restore_training(self._trainer, checkpoint)
        self._progress.load(checkpoint.state)
        self._watch.load(checkpoint.state, lambda: checkpoint.tensors(PATIENCE), checkpoint.path)
        self._best_score = checkpoint.state["best_saved_loss"]
        self.saved_step = checkpoint.step

    def forget_best(self) -> None:
        """Let the next checkpoint that is measured be the best so far: the held-out images are others now."""
        self._best_score = None
        self._progress.forget_best()

    def stay_with_folder(self) -> None:
        """Stop if the run's folder is no longer at its path; called where a signal could end it too, as nothing has changed.

        Raises:
            RunMovedError: After a checkpoint was saved where the folder went, if that is known.
        """
        if self._held is not None and not self._held.is_in_place:
            raise self._held.moved(self._saved_at(self._held.whereabouts()))

    def _saved_at(self, folder: Path | None) -> int | None:
        """Save there; the step, or None if it cannot be. Several processes would have to agree on it, and only one knows."""
        if folder is None or self._trainer.accelerator.num_processes > 1:
            return None
        self.settle()
        with suppress(OutputError):
            self._write(RunDirectory(folder), self._tensors(), best=False)
            return self._trainer.step
        return None

    def _tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """Everything of the run that is a tensor."""
        evaluations = self._watch.evaluations
        kept = {PATIENCE: {EVALUATIONS: torch.from_numpy(evaluations)}} if len(evaluations) else {}
        return {**training_tensors(self._trainer), **kept}

    def _require_folder(self) -> None:
        if self._held is not None:
            self._held.check()

    def _write(self, run: RunDirectory, tensors: Mapping[str, Mapping[str, Tensor]], *, best: bool) -> Path:
        step = self._trainer.step
        return save_checkpoint(
            run,
            step,
            tensors,
            self._state(),
            self._config_toml,
            keep_last=self._settings.keep_last,
            best=best,
            last_good_step=self._trainer.health.last_good_step(step),
        )

    def _state(self) -> dict[str, Any]:
        """Everything of the run that is no tensor; `state_before_training` is that of one that has not begun."""
        trainer = self._trainer
        return {
            **training_state(trainer),
            "launch": launch(trainer.accelerator, compiled=trainer.is_compiled),
            **self._about_data,
            **self._progress.state(),
            **self._watch.state(),
            "best_saved_loss": self._best_score,
        }
