"""Run the training loop: steps until the budget is used up, and what is due between them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import torch

from ddpm_cli.core.compute.sharding import whole
from ddpm_cli.core.compute.signals import GivenUpError, StopRequest
from ddpm_cli.core.compute.team import Team
from ddpm_cli.errors import InterruptedRunError, OutputError
from ddpm_cli.results.events import (
    CheckpointSaved,
    EpochEnded,
    Listener,
    MetricsLogged,
    SamplesDrawn,
    TrainProgress,
    TrainSummary,
)
from ddpm_cli.runs.checkpoints import Checkpoint, save_checkpoint
from ddpm_cli.runs.launch_record import launch
from ddpm_cli.runs.metrics_log import count_incidents
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.parallel import own_samples
from ddpm_cli.sampling.trained_model import TrainedModel
from ddpm_cli.training.divergence import end_diverged, tell_of_trouble
from ddpm_cli.training.held_out import held_out_loss_sum
from ddpm_cli.training.progress import Progress, Row
from ddpm_cli.training.state import restore_training, training_state, training_tensors
from ddpm_cli.training.trainer import finite

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from ddpm_cli.data.images import Dataset
    from ddpm_cli.runs.held_folder import HeldFolder
    from ddpm_cli.training.metrics import TrainingMetrics
    from ddpm_cli.training.trainer import Trainer

Result = TypeVar("Result")


class TrainingLoop:
    """Drive a trainer through its budget.

    Args:
        trainer: Model, optimizer and EMA.
        dataset: Its images, of which some are held out.
        run: Where the run is kept.
        config_toml: The config as it is kept in checkpoints.
        on_event: Told of everything that happens; on the main process alone.
        metrics: Measures samples every `train.evaluate_every` steps; None for never.
        held: The folder of the run, on the process that writes to it; None on others.
    """

    def __init__(
        self,
        trainer: Trainer,
        dataset: Dataset,
        run: RunDirectory,
        config_toml: str,
        on_event: Listener,
        metrics: TrainingMetrics | None = None,
        held: HeldFolder | None = None,
    ) -> None:
        self.trainer = trainer
        self.config = trainer.config
        self.accelerator = trainer.accelerator
        self.team = Team.of(trainer.accelerator)
        self.run = run
        self.config_toml = config_toml
        self.on_event = on_event
        self.metrics = metrics
        self.held = held
        self.data_sha256 = dataset.sha256
        self.class_names = dataset.train.class_names
        train = self.config.train
        self.held_out_images = torch.from_numpy(dataset.test.images[: train.eval_images])
        labelled = trainer.num_classes is not None
        self.held_out_labels = torch.from_numpy(dataset.test.labels[: train.eval_images]) if labelled else None

        self.stop = StopRequest()
        self.after_step_is_due = False
        self.saved_step = 0
        self.progress = Progress()

    @property
    def is_finished(self) -> bool:
        """Tell whether the budget is used up and all that was due then is done."""
        return self.trainer.share >= 1 and not self.after_step_is_due

    @property
    def logged_step(self) -> int:
        """Tell the last step whose row belongs into the log of a run that goes on from here."""
        return self.trainer.step - self.after_step_is_due

    def train(self, stop: StopRequest) -> TrainSummary:
        """Train until the budget is used up.

        Raises:
            InterruptedRunError: After a signal, when the run has been saved.
            DivergedError: If no step could be taken for several steps in a row; the run went back to its last good checkpoint.
            RunMovedError: If the run's folder is no longer at its path; where it went is saved to, if that is known.
        """
        self.stop = stop
        self.progress.started = time.monotonic()
        first_share = self.trainer.share
        try:
            while True:
                if not self.after_step_is_due:
                    self.take_step(first_share)
                self._after_step(last=self.trainer.share >= 1)
                if self.trainer.share >= 1:
                    tell_of_trouble(self.run, self.trainer, self.on_event)
                    return self.summary()
        except GivenUpError:
            self._interrupt()

    def take_step(self, first_share: float) -> None:
        """Take one step, and tell of it."""
        with self.progress.training_time():
            self.trainer.train_step()
        self._end_if_diverged()
        self.after_step_is_due = True
        self.progress.session_images += self.config.train.batch_size
        share = self.trainer.budget.share(self.trainer.step, self.progress.seconds())
        self.trainer.share, signal_number = self._agree(share, self.stop.signal_number)
        self._report_progress(first_share)
        self._give_up_after(signal_number)

    def _end_if_diverged(self) -> None:
        if self.trainer.health.has_diverged:
            self._require_folder()
            end_diverged(self.run, self.trainer, self.on_event)

    def _settle(self) -> None:
        """Wait for what the last steps came to, which all that is written down tells of."""
        with self.progress.training_time():
            self.trainer.settle()
        self._end_if_diverged()

    def _give_up_after(self, signal_number: int) -> None:
        """Stop if there was a signal, of which all processes must have agreed that there was."""
        if signal_number:
            self.stop.signal_number = signal_number
            raise GivenUpError

    def _after_step(self, *, last: bool) -> None:
        """Everything that is due at this step: metrics, held-out loss, samples, checkpoint; all of it at the last one.

        What takes long comes first. A signal ends it before anything has changed, and a resumed run does it from the start.

        Raises:
            GivenUpError: After a signal.
        """
        train, checkpoint = self.config.train, self.config.checkpoint
        if not (last or self._something_is_due()):
            self.after_step_is_due = False
            return
        self._stay_with_folder()
        self._settle()
        measured = self.measure_samples(last)
        score = measured.get(checkpoint.best_by)
        save = (
            last
            or self.trainer.step % checkpoint.every == 0
            or (checkpoint.keep_best and self.progress.has_improved(score, checkpoint.best_by))
        )
        evaluate = save or self.trainer.step % train.eval_every == 0
        log = last or self.trainer.step % train.log_every == 0
        held_out_loss = finite(self.measure_held_out_loss()) if evaluate and len(self.held_out_images) else None
        if last or self.trainer.step % train.sample_every == 0:
            self.draw_samples()

        if evaluate and len(self.held_out_images):
            self.progress.keep_held_out_loss(held_out_loss, self.trainer.step)
        self._end_epoch(last)
        if log or evaluate or measured:
            self.on_event(MetricsLogged(self._row(log, evaluate) | measured))
        if log and not last:
            self.trainer.losses.reset("interval")
        self.after_step_is_due = False
        if save:
            self.save(self.progress.held_out_loss if checkpoint.best_by == "held-out-loss" else score)

    def _something_is_due(self) -> bool:
        train, step = self.config.train, self.trainer.step
        periods = (train.log_every, train.eval_every, train.sample_every, train.evaluate_every, self.config.checkpoint.every)
        return self._epoch_is_full() or any(every is not None and step % every == 0 for every in periods)

    def _epoch_is_full(self) -> bool:
        """Whether the last step ended an epoch."""
        per_epoch = self.trainer.batches.steps_per_epoch
        return math.floor(self.trainer.step / per_epoch) > math.floor((self.trainer.step - 1) / per_epoch)

    def _unless_stopped(self, work: Callable[[], Result]) -> Result:
        """Do what may take minutes and calls `stop.check` on the way; a signal on any process has all of them give it up.

        Raises:
            GivenUpError: After a signal.
        """
        result = None
        with suppress(GivenUpError):
            result = work()
        _, signal_number = self._agree(0.0, self.stop.signal_number)
        self._give_up_after(signal_number)
        assert result is not None  # only a signal leaves it out
        return result

    def _agree(self, share: float, signal_number: int) -> tuple[float, int]:
        """The main process's clock and any process's signal decide for all, so that none steps on alone."""
        share, signal = self.team.largest(share if self.team.is_main else 0.0, signal_number)
        return share, int(signal)

    def _report_progress(self, first_share: float) -> None:
        share, progress = self.trainer.share, self.progress
        left = progress.seconds_left(share, first_share)
        self.on_event(TrainProgress(self.trainer.step, share, progress.images_per_second(), left))

    def _interrupt(self) -> NoReturn:
        self._stay_with_folder()
        if self.saved_step != self.trainer.step:
            self._settle()
            self.save(None)
        message = f"Stopped and saved at step {self.trainer.step:,}."
        raise InterruptedRunError(message, f"Go on with: ddpm resume {self.run.shell_word}", self.stop.signal_number)

    # --------------------------------------------------------------------------------------------------------- metrics

    def _row(self, log: bool, evaluate: bool) -> Row:
        images = self.trainer.step * self.config.train.batch_size
        row: Row = {
            "step": self.trainer.step,
            "epoch": round(self.trainer.step / self.trainer.batches.steps_per_epoch, 4),
            "images": images,
            "seconds": round(self.progress.seconds(), 3),
        }
        if log:
            self.progress.last_loss = self.trainer.losses.mean("interval")
            row |= {"loss": self.progress.last_loss, "lr": self.trainer.lr(), "grad_norm": finite(self.trainer.grad_norm)}
            if self.progress.session_images:
                row["images_per_second"] = round(self.progress.images_per_second(), 1)
        if evaluate and len(self.held_out_images):
            row["held_out_loss"] = self.progress.held_out_loss
        if self.trainer.health.non_finite_steps:
            row["non_finite_steps"] = self.trainer.health.non_finite_steps
        return row

    def _end_epoch(self, last: bool) -> None:
        """Add a row to the history when an epoch is full; the last part of one is not kept, as the run may be extended."""
        per_epoch, full = self.trainer.batches.steps_per_epoch, self._epoch_is_full()
        if not (full or last):
            return
        row: Row = {
            "epoch": math.floor(self.trainer.step / per_epoch) if full else round(self.trainer.step / per_epoch, 4),
            "step": self.trainer.step,
            "loss": self.trainer.losses.mean("epoch"),
            "seconds": round(self.progress.seconds(), 3),
        }
        if self.progress.held_out_loss is not None:
            row |= {"held_out_loss": self.progress.held_out_loss, "held_out_step": self.progress.held_out_step}
        if full:
            self.progress.history.append(row)
            self.trainer.losses.reset("epoch")
        self.on_event(EpochEnded(self.progress.history if full else [*self.progress.history, row]))

    def measure_held_out_loss(self) -> float:
        """Average the loss of the EMA weights over the held-out images, each process taking its share."""
        count = len(self.held_out_images)
        batch = self.config.train.micro_batch_size or self.config.train.batch_size
        with whole(self.trainer.ema.model) as network:
            total = self._unless_stopped(
                lambda: held_out_loss_sum(
                    network,
                    self.held_out_images,
                    self.trainer.schedule,
                    self.trainer.loss,
                    batch,
                    self.team.share(count),
                    self.held_out_labels,
                    self.stop.check,
                )
            )
        return float(self.accelerator.reduce(total, "sum")) / count

    def measure_samples(self, last: bool) -> dict[str, float]:
        """Measure samples of the EMA weights if that is due, by name of metric; what is not finite is left out."""
        metrics, every = self.metrics, self.config.train.evaluate_every
        if metrics is None or every is None or not (last or self.trainer.step % every == 0):
            return {}
        with whole(self.trainer.ema.model) as network:
            own = self._unless_stopped(lambda: metrics.draw(self._trained(network), self.stop.check))
        return {name: value for name, value in metrics.values(own).items() if math.isfinite(value)}

    def _trained(self, network: nn.Module) -> TrainedModel:
        """The EMA weights as they are now."""
        return TrainedModel(
            network,
            self.trainer.schedule,
            self.config,
            self.trainer.image_shape,
            self.run.path,
            self.trainer.step,
            self.class_names,
        )

    def draw_samples(self) -> None:
        """Hand a grid of samples of the EMA weights to the listener, always from the same seeds; each process draws its share."""
        count = self.config.train.sample_n
        with whole(self.trainer.ema.model) as network:
            own = self._unless_stopped(lambda: self._own_samples(network, count))
        images = list(self.team.collect(own, count))
        self._stay_with_folder()  # drawing may have taken minutes
        if self.team.is_main:
            path = self.run.samples_folder / f"step-{self.trainer.step:08d}.png"
            self.on_event(SamplesDrawn(torch.cat(images).numpy(), self.trainer.step, path, self.run.samples_png))

    def _own_samples(self, network: nn.Module, count: int) -> Tensor:
        settings = self.config.sample.model_copy(update={"sampler": self.config.train.sampler})
        return own_samples(self.team, self._trained(network), range(count), settings, on_event=lambda _: self.stop.check())

    def summary(self) -> TrainSummary:
        """Tell how the run stands now."""
        return TrainSummary(
            run=self.run.path,
            step=self.trainer.step,
            epochs=self.trainer.step / self.trainer.batches.steps_per_epoch,
            images=self.trainer.step * self.config.train.batch_size,
            seconds=self.progress.seconds(),
            images_per_second=self.progress.images_per_second(),
            loss=self.progress.last_loss,
            held_out_loss=self.progress.held_out_loss,
            best_held_out_loss=self.progress.best_held_out_loss,
            non_finite_steps=self.trainer.health.non_finite_steps,
            incidents=count_incidents(self.run.incidents_log),
        )

    # ----------------------------------------------------------------------------------------------------- checkpoints

    def save(self, score: float | None) -> None:
        """Write a checkpoint; `score` is what the best is chosen by (checkpoint.best_by), at this very step.

        It is None if it was not measured or not finite; such a checkpoint is never the best.
        """
        best = self.progress.has_improved(score, self.config.checkpoint.best_by)
        if best:
            self.progress.best_saved_score = score
        tensors = training_tensors(self.trainer)
        if self.accelerator.is_main_process:
            self._require_folder()
            saved = self._write_checkpoint(self.run, tensors, best=best and self.config.checkpoint.keep_best)
            self.on_event(CheckpointSaved(saved, self.trainer.step))
        self.saved_step = self.trainer.step
        self.accelerator.wait_for_everyone()

    def _write_checkpoint(self, run: RunDirectory, tensors: Mapping[str, Mapping[str, Tensor]], *, best: bool) -> Path:
        return save_checkpoint(
            run,
            self.trainer.step,
            tensors,
            loop_state(self),
            self.config_toml,
            keep_last=self.config.checkpoint.keep_last,
            best=best,
            last_good_step=self.trainer.health.last_good_step(self.trainer.step),
        )

    def _require_folder(self) -> None:
        if self.held is not None:
            self.held.check()

    def _stay_with_folder(self) -> None:
        """Stop if the run's folder is no longer at its path; called where a signal could end it too, as nothing has changed.

        Raises:
            RunMovedError: After a checkpoint was saved where the folder went, if that is known.
        """
        if self.held is not None and not self.held.is_in_place:
            raise self.held.moved(self._saved_at(self.held.whereabouts()))

    def _saved_at(self, folder: Path | None) -> int | None:
        """Save there; the step, or None if it cannot be. Several processes would have to agree on it, and only one knows."""
        if folder is None or self.team.size > 1:
            return None
        self._settle()
        with suppress(OutputError):
            self._write_checkpoint(RunDirectory(folder), training_tensors(self.trainer), best=False)
            return self.trainer.step
        return None


def loop_state(loop: TrainingLoop) -> dict[str, Any]:
    """Gather everything of a loop and its trainer that is no tensor."""
    return training_state(loop.trainer) | {
        "launch": launch(loop.accelerator, compiled=loop.trainer.is_compiled),
        "seconds": loop.progress.seconds(),
        "after_step_is_due": loop.after_step_is_due,
        "data_sha256": loop.data_sha256,
        "class_names": list(loop.class_names),
        **loop.progress.state(),
    }


def restore_loop(loop: TrainingLoop, checkpoint: Checkpoint) -> None:
    """Let a fresh loop go on from a checkpoint.

    Raises:
        CheckpointError: If it holds another architecture.
    """
    restore_training(loop.trainer, checkpoint)
    state = checkpoint.state
    loop.saved_step = checkpoint.step
    loop.after_step_is_due = state.get("after_step_is_due", False)
    loop.progress.load(state)
    loop.trainer.share = loop.trainer.budget.share(loop.trainer.step, loop.progress.seconds_before)
