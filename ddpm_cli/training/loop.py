"""Run the training loop: steps until the budget is used up, and what is due between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from ddpm_cli.config.schema.config import HELD_OUT_LOSS
from ddpm_cli.core.compute.signals import GivenUpError, StopRequest
from ddpm_cli.core.compute.team import Team
from ddpm_cli.errors import InterruptedRunError
from ddpm_cli.results.events import EpochEnded, Listener, MetricsLogged, SamplesDrawn, TrainSummary
from ddpm_cli.results.outlook import NoLongerPaid
from ddpm_cli.runs.metrics_log import NO_LONGER_PAYS
from ddpm_cli.training.divergence import tell_of_trouble
from ddpm_cli.training.measuring import Measuring
from ddpm_cli.training.patience.watch import HELD_OUT, Watch, no_longer_pays
from ddpm_cli.training.progress import Progress
from ddpm_cli.training.saving import Saver
from ddpm_cli.training.stopping import Stopping
from ddpm_cli.training.trainer import finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ddpm_cli.data.images import Dataset
    from ddpm_cli.runs.checkpoints import Checkpoint
    from ddpm_cli.runs.held_folder import HeldFolder
    from ddpm_cli.runs.run_directory import RunDirectory
    from ddpm_cli.training.metrics import TrainingMetrics
    from ddpm_cli.training.trainer import Trainer


@dataclass(frozen=True)
class _Measured:
    """Hold what was measured after a step: metrics of samples, the loss of each held-out image or None, and whether to save."""

    metrics: dict[str, float]
    losses: NDArray[np.float64] | None
    save: bool


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
        self.watch = Watch(trainer.config)
        self._stopped: NoLongerPaid | None = None
        self.saver = Saver(trainer, self.progress, self.watch, dataset, run, config_toml, on_event, held)

    @property
    def is_finished(self) -> bool:
        """Tell whether the budget is used up, or nothing is gained any more, and all that was due then is done."""
        return (self.trainer.share >= 1 or self.watch.stopped) and not self.progress.after_step_is_due

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
        """Train until the budget is used up, or `train.patience` finds that training no longer pays.

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
                if self.is_finished:
                    tell_of_trouble(self.run, self.trainer, self.on_event)
                    return self.progress.summary(self.run, self._stopped)
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

        That it is the last may come out here, where what was measured shows that training no longer pays.

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
        found = self._measure(last)
        looked_at = self._looked_at(found)
        stopped = None if last or looked_at is None else self._no_longer_paid(looked_at)
        if stopped:
            last, found = True, self._measure(True, found)
        log = last or self._is_due(train.log_every)
        if last or self._is_due(train.sample_every):
            self._draw_samples()

        if looked_at is not None:
            self.watch.add(looked_at)
        self.watch.stopped, self._stopped = stopped is not None, stopped
        if found.losses is not None:
            self.progress.keep_held_out_loss(finite(float(found.losses.mean())))
        if last or self.progress.epoch_is_full():
            self.on_event(EpochEnded(self.progress.end_epoch()))
        if log or found.save or found.metrics or self._is_due(train.eval_every):
            row = self.progress.row(log=log, held_out=found.losses is not None)
            self.on_event(MetricsLogged({**row, **found.metrics, **({NO_LONGER_PAYS: 1} if stopped else {})}))
        if log and not last:
            self.trainer.losses.reset("interval")
        self.progress.after_step_is_due = False
        if found.save:
            score = self.progress.held_out_loss if checkpoint.best_by == HELD_OUT_LOSS else found.metrics.get(checkpoint.best_by)
            self.saver.save(score)

    def _measure(self, last: bool, known: _Measured | None = None) -> _Measured:
        """Measure what is due at this step, but for what is known already; all of it at the last one.

        Raises:
            GivenUpError: After a signal.
        """
        train, checkpoint = self.trainer.config.train, self.trainer.config.checkpoint
        metrics = dict(known.metrics) if known else {}
        if not metrics and (last or self._is_due(train.evaluate_every)):
            metrics = self.measuring.metrics_of_samples()
        improved = checkpoint.keep_best and self.saver.has_improved(metrics.get(checkpoint.best_by))
        save = last or self._is_due(checkpoint.every) or improved
        losses = known.losses if known else None
        if losses is None and len(self.measuring.held_out_images) > 0 and (save or self._is_due(train.eval_every)):
            losses = self.measuring.held_out_losses()
        return _Measured(metrics, losses, save)

    def _looked_at(self, found: _Measured) -> NDArray[np.float64] | None:
        """What `train.patience` looks at, if its time is now and it is finite: evaluations come at even distances."""
        train, figure = self.trainer.config.train, self.watch.figure
        if figure == HELD_OUT:
            looked_at = found.losses if self._is_due(train.eval_every) else None
        else:
            due = figure in found.metrics and self._is_due(train.evaluate_every)
            looked_at = np.array([found.metrics[figure]]) if due else None
        return looked_at if looked_at is not None and np.isfinite(looked_at).all() else None

    def _no_longer_paid(self, looked_at: NDArray[np.float64]) -> NoLongerPaid | None:
        """Why training is to stop here, on which all processes agree; None if it is to go on.

        Raises:
            GivenUpError: After a signal.
        """
        trend = self.watch.trend_with(looked_at)
        if trend is None:
            return None
        stops, signal_number = self.stopping.agree(float(no_longer_pays(trend)))
        self.stopping.give_up_after(signal_number)
        trainer = self.trainer
        if not stops or self.watch.patience is None:
            return None
        return NoLongerPaid(
            figure=self.watch.figure,
            evaluations=self.watch.patience,
            trend=trend,
            lr_share=trainer.lr() / trainer.config.optimizer.lr,
        )

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
