"""Run the training loop: steps until the budget is used up, and what is due between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from ddpm_cli.core.compute.signals import GivenUpError, StopRequest
from ddpm_cli.core.compute.team import Team
from ddpm_cli.errors import InterruptedRunError
from ddpm_cli.results.events import EpochEnded, Listener, MetricsLogged, SamplesDrawn, TrainSummary
from ddpm_cli.training.divergence import tell_of_trouble
from ddpm_cli.training.measuring import Measuring
from ddpm_cli.training.progress import Progress
from ddpm_cli.training.saving import Saver
from ddpm_cli.training.stopping import Stopping
from ddpm_cli.training.trainer import finite

if TYPE_CHECKING:
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.runs.checkpoints import Checkpoint
    from ddpm_cli.runs.held_folder import HeldFolder
    from ddpm_cli.runs.run_directory import RunDirectory
    from ddpm_cli.training.metrics import TrainingMetrics
    from ddpm_cli.training.trainer import Trainer


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
        self.trainer, self.run, self.on_event, self.held = trainer, run, on_event, held
        team = Team.of(trainer.accelerator)
        self.stopping = Stopping(team)
        self.progress = Progress(trainer)
        self.measuring = Measuring(trainer, dataset, run, team, self.stopping, metrics)
        self.saver = Saver(trainer, self.progress, dataset, run, config_toml, on_event, held)

    @property
    def is_finished(self) -> bool:
        """Tell whether the budget is used up and all that was due then is done."""
        return self.trainer.share >= 1 and not self.progress.after_step_is_due

    @property
    def logged_step(self) -> int:
        """Tell the last step whose row belongs into the log of a run that goes on from here."""
        return self.trainer.step - self.progress.after_step_is_due

    def restore(self, checkpoint: Checkpoint, *, other_data: bool = False) -> None:
        """Go on from a checkpoint.

        Args:
            checkpoint: Of this run.
            other_data: Whether the images are others from here on, so that losses no longer compare.
        Raises:
            CheckpointError: If it holds another architecture.
        """
        self.saver.restore(checkpoint)
        if other_data:
            self.saver.forget_best()

    def train(self, stop: StopRequest) -> TrainSummary:
        """Train until the budget is used up.

        Raises:
            InterruptedRunError: After a signal, when the run has been saved.
            DivergedError: If no step could be taken for several steps in a row; the run went back to its last good checkpoint.
            RunMovedError: If the run's folder is no longer at its path; where it went is saved to, if that is known.
        """
        self.stopping.request = stop
        self.progress.begin()
        try:
            while True:
                if not self.progress.after_step_is_due:
                    self.take_step()
                with self.trainer.computing():
                    self._after_step(last=self.trainer.share >= 1)
                if self.trainer.share >= 1:
                    tell_of_trouble(self.run, self.trainer, self.on_event)
                    return self.progress.summary(self.run)
        except GivenUpError:
            self._interrupt()

    def take_step(self) -> None:
        """Take one step, and tell of it."""
        with self.progress.training_time():
            self.trainer.train_step()
        self.saver.end_if_diverged()
        self.progress.count_step()
        self.saver.keep_averages()
        share = self.trainer.budget.share(self.trainer.step, self.progress.seconds())
        self.trainer.share, signal_number = self.stopping.agree(share)
        self.on_event(self.progress.report())
        self.stopping.give_up_after(signal_number)

    def _after_step(self, *, last: bool) -> None:
        """Do everything that is due at this step: metrics, held-out loss, samples, checkpoint; all of it at the last one.

        What takes long comes first. A signal ends it before anything has changed, and a resumed run does it from the start.

        Raises:
            GivenUpError: After a signal.
        """
        train, checkpoint = self.trainer.config.train, self.trainer.config.checkpoint
        if not (last or self._something_is_due()):
            self.progress.after_step_is_due = False
            return
        self.saver.stay_with_folder()
        self.saver.settle()
        measured = self.measuring.metrics_of_samples() if last or self._is_due(train.evaluate_every) else {}
        score = measured.get(checkpoint.best_by)
        save = last or self._is_due(checkpoint.every) or (checkpoint.keep_best and self.saver.has_improved(score))
        evaluate = save or self._is_due(train.eval_every)
        held_out = evaluate and len(self.measuring.held_out_images) > 0
        log = last or self._is_due(train.log_every)
        held_out_loss = finite(self.measuring.held_out_loss()) if held_out else None
        if last or self._is_due(train.sample_every):
            self._draw_samples()

        if held_out:
            self.progress.keep_held_out_loss(held_out_loss)
        if last or self.progress.epoch_is_full():
            self.on_event(EpochEnded(self.progress.end_epoch()))
        if log or evaluate or measured:
            self.on_event(MetricsLogged(self.progress.row(log=log, held_out=held_out) | measured))
        if log and not last:
            self.trainer.losses.reset("interval")
        self.progress.after_step_is_due = False
        if save:
            self.saver.save(self.progress.held_out_loss if checkpoint.best_by == "held-out-loss" else score)

    def _something_is_due(self) -> bool:
        train = self.trainer.config.train
        periods = (
            train.log_every,
            train.eval_every,
            train.sample_every,
            train.evaluate_every,
            self.trainer.config.checkpoint.every,
        )
        return self.progress.epoch_is_full() or any(map(self._is_due, periods))

    def _is_due(self, every: int | None) -> bool:
        return every is not None and self.trainer.step % every == 0

    def _draw_samples(self) -> None:
        images = self.measuring.samples()
        self.saver.stay_with_folder()  # drawing may have taken minutes
        if images is not None:
            path = self.run.samples_folder / f"step-{self.trainer.step:08d}.png"
            self.on_event(SamplesDrawn(images, self.trainer.step, path, self.run.samples_png))

    def _interrupt(self) -> NoReturn:
        self.saver.stay_with_folder()
        if self.saver.saved_step != self.trainer.step:
            self.saver.settle()
            self.saver.save(None)
        message = f"Stopped and saved at step {self.trainer.step:,}."
        remedy = f"Go on with: ddpm resume {self.run.shell_word}"
        raise InterruptedRunError(message, remedy, self.stopping.request.signal_number)
