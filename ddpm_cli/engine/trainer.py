"""The training loop (DDPM, Alg. 1)."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ddpm_cli.data.batches import Batches, place
from ddpm_cli.diffusion.guidance import drop_labels, with_labels
from ddpm_cli.engine.budget import Budget, lr_factor
from ddpm_cli.engine.build import (
    build_loss,
    build_model,
    build_optimizer,
    build_schedule,
    build_schedule_learner,
    build_timestep_sampler,
    resolved_classes,
)
from ddpm_cli.engine.ema import Ema
from ddpm_cli.engine.generate import TrainedModel, generate_samples
from ddpm_cli.engine.held_out import held_out_loss_sum
from ddpm_cli.engine.seeds import generator, seed_of
from ddpm_cli.engine.weights import flatten_optimizer, load_weights, unflatten_optimizer
from ddpm_cli.errors import DivergedError, InterruptedRunError
from ddpm_cli.events import (
    CheckpointSaved,
    EpochEnded,
    Listener,
    MetricsLogged,
    Notice,
    SamplesDrawn,
    TrainProgress,
    TrainSummary,
)
from ddpm_cli.runs.checkpoints import save_checkpoint

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema import Config
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.diffusion.learned_schedule import ScheduleLearner
    from ddpm_cli.engine.signals import StopRequest
    from ddpm_cli.engine.training_metrics import TrainingMetrics
    from ddpm_cli.runs.checkpoints import Checkpoint
    from ddpm_cli.runs.directory import RunDirectory

MAX_NON_FINITE_STEPS = 10
MAX_OVERFLOWS = 50  # fp16: while the loss scale is found, a step overflows now and then and is no failure


class Trainer:
    """Model, optimizer, EMA and counters of one run, in memory.

    Args:
        config: The resolved config.
        dataset: Its images.
        accelerator: Device, precision and processes.
        config_toml: The config as it is kept in checkpoints.
        on_event: Told of everything that happens; on the main process alone.
        metrics: Measures samples every `train.evaluate_every` steps; None for never.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        accelerator: Accelerator,
        config_toml: str,
        on_event: Listener,
        metrics: TrainingMetrics | None = None,
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        self.config_toml = config_toml
        self.on_event = on_event
        self.metrics = metrics
        self.device: torch.device = accelerator.device
        self.learner = build_schedule_learner(config)
        self.schedule = self.learner.schedule if self.learner else build_schedule(config.schedule)
        self.loss = build_loss(config.objective)
        self.timestep_sampler = build_timestep_sampler(config.objective.timesteps, self.schedule.timesteps)
        self.image_shape = dataset.image_shape
        self.data_sha256 = dataset.sha256
        self.class_names = dataset.train.class_names
        self.num_classes = resolved_classes(config.model)
        train = config.train
        self.batches = Batches(
            place(dataset.train.images, self.device),
            batch_size=train.batch_size,
            seed=train.seed,
            horizontal_flip=config.data.horizontal_flip,
            device=self.device,
            labels=dataset.train.labels,
        )
        self.held_out_images = torch.from_numpy(dataset.test.images[: train.eval_images])
        self.held_out_labels = torch.from_numpy(dataset.test.labels[: train.eval_images]) if self.num_classes else None
        self.budget = Budget.of(train, len(dataset.train.images))

        torch.manual_seed(seed_of(train.seed, "weights"))
        learned_variance = config.objective.reverse_variance == "learned-range"
        self.model = build_model(config.model, self.image_shape, learned_variance=learned_variance).to(self.device)
        self.ema = Ema(self.model, config.ema.decay, config.ema.warmup)
        self.network, self.optimizer = accelerator.prepare(self.model, build_optimizer(config.optimizer, self.model.parameters()))

        self.step = 0
        self.saved_step = 0
        self.share = 0.0
        self.seconds_before = 0.0
        self.started = time.monotonic()
        self.session_images = 0
        self.session_train_seconds = 0.0
        self.loss_sums = {"interval": torch.zeros((), device=self.device), "epoch": torch.zeros((), device=self.device)}
        self.loss_steps = {"interval": 0, "epoch": 0}
        self.history: list[dict[str, float | int | None]] = []
        self.last_loss: float | None = None
        self.held_out_loss: float | None = None
        self.held_out_step = 0
        self.best_held_out_loss: float | None = None
        self.best_saved_score: float | None = None
        self.non_finite_steps = 0
        self.non_finite_in_a_row = 0
        self.grad_norm = 0.0

    # ------------------------------------------------------------------------------------------------------- one step

    def train_step(self) -> None:
        """Draw a batch, steps and noise; take one optimizer step; move the EMA (DDPM, Alg. 1)."""
        train, accelerator = self.config.train, self.accelerator
        torch.manual_seed(seed_of(train.seed, "dropout", self.step, accelerator.process_index))
        draws = generator(self.device, train.seed, "noise", self.step)
        t, weights = self.timestep_sampler.draw(train.batch_size, self.schedule, draws, self.device)
        eps = torch.randn(train.batch_size, *self.image_shape, generator=draws, device=self.device)

        labels = self._labels()
        parts = self._parts()
        losses = torch.zeros(train.batch_size, device=self.device)
        for number, part in enumerate(parts):
            x_0 = self.batches.images_at(self.step, part)
            network = with_labels(self.network, None if labels is None else labels[part])
            probe = self.learner.probe(network, x_0, t[part], eps[part]) if self.learner else None
            with accelerator.no_sync(self.network) if number + 1 < len(parts) else nullcontext():
                part_losses = self.loss(probe or network, x_0, t[part], eps[part], self.schedule)
                part_loss = (weights[part] * part_losses).sum() / train.batch_size
                accelerator.backward(part_loss * accelerator.num_processes)
            losses[part] = part_losses.detach()
            if self.learner and probe:
                self.learner.collect(probe, part)
        losses = accelerator.reduce(losses, "sum")
        self.timestep_sampler.update(t, losses)
        self._count_loss((weights * losses).mean())
        self._optimizer_step()
        if self.learner:
            self.learner.step(t, self._sum)
            self.schedule = self.learner.schedule
        self.step += 1
        self.session_images += train.batch_size

    def _labels(self) -> Tensor | None:
        """The labels of the global batch, some of them hidden; None if the model takes none."""
        if self.num_classes is None:
            return None
        draws = generator(self.device, self.config.train.seed, "label dropout", self.step)
        return drop_labels(self.batches.labels_at(self.step), self.num_classes, self.config.objective.label_dropout, draws)

    def _sum(self, values: Tensor) -> Tensor:
        """A CPU tensor added up over all processes."""
        if self.accelerator.num_processes == 1:
            return values
        total: Tensor = self.accelerator.reduce(values.to(self.device), "sum")
        return total.to(values.device)

    def _parts(self) -> list[slice]:
        """The rows of the global batch that this process takes, in micro-batches."""
        size, rank, processes = self.config.train.batch_size, self.accelerator.process_index, self.accelerator.num_processes
        first, last = rank * size // processes, (rank + 1) * size // processes
        micro = self.config.train.micro_batch_size or size
        return [slice(start, min(start + micro, last)) for start in range(first, last, micro)]

    def _optimizer_step(self) -> None:
        limit = self.config.train.max_grad_norm
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), math.inf if limit is None else limit)
        self.grad_norm = float(norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr()
        scaled = self.accelerator.scaler is not None
        if scaled or math.isfinite(self.grad_norm):
            self.optimizer.step()
        if not math.isfinite(self.grad_norm) or self.accelerator.optimizer_step_was_skipped:
            self._count_non_finite(MAX_OVERFLOWS if scaled else MAX_NON_FINITE_STEPS)
        else:
            self.ema.update(self.model.parameters())
            self.non_finite_in_a_row = 0
        self.optimizer.zero_grad()

    def lr(self) -> float:
        """Learning rate of the next step."""
        optimizer = self.config.optimizer
        return optimizer.lr * lr_factor(optimizer, self.step, self.share)

    def _count_loss(self, loss: Tensor) -> None:
        """Add a step's loss to the means; one that is not finite would make them so, and its step is counted elsewhere."""
        if not math.isfinite(float(loss)):
            return
        for span in self.loss_sums:
            self.loss_sums[span] += loss
            self.loss_steps[span] += 1

    def _count_non_finite(self, limit: int) -> None:
        self.non_finite_steps += 1
        self.non_finite_in_a_row += 1
        if self.non_finite_in_a_row >= limit:
            raise DivergedError(
                f"The gradients were not finite in {limit} steps in a row, the last being step {self.step}.",
                "The checkpoints before are intact. Lower optimizer.lr, lower train.max_grad_norm, or set train.precision to fp32.",
            )
        if limit == MAX_NON_FINITE_STEPS:
            self.on_event(Notice(f"Step {self.step}: the gradient is not finite; the step is skipped.", important=True))

    # ------------------------------------------------------------------------------------------------------- the loop

    def run(self, run: RunDirectory, stop: StopRequest) -> TrainSummary:
        """Train until the budget is used up.

        Raises:
            InterruptedRunError: After a signal, when the run has been saved.
            DivergedError: If no step could be taken for several steps in a row.
        """
        self.started = time.monotonic()
        first_share = self.share
        while True:
            began = time.monotonic()
            self.train_step()
            self.session_train_seconds += time.monotonic() - began
            self.share, signal_number = self._agree(self.budget.share(self.step, self.seconds()), stop.signal_number)
            self._report_progress(first_share)
            self._after_step(run, last=self.share >= 1)
            if self.share >= 1:
                return self.summary(run)
            if signal_number:
                self._interrupt(run, signal_number)

    def _after_step(self, run: RunDirectory, *, last: bool) -> None:
        """Everything that is due at this step: metrics, held-out loss, samples, checkpoint; all of it at the last one."""
        train, checkpoint = self.config.train, self.config.checkpoint
        measured = self.measure_samples(run, last)
        score = measured.get(checkpoint.best_by)
        save = last or self.step % checkpoint.every == 0 or (checkpoint.keep_best and self._has_improved(score))
        evaluate = save or self.step % train.eval_every == 0
        log = last or self.step % train.log_every == 0
        if evaluate and len(self.held_out_images):
            self.held_out_loss = finite(self.measure_held_out_loss())
            self.held_out_step = self.step
            known = [loss for loss in (self.best_held_out_loss, self.held_out_loss) if loss is not None]
            self.best_held_out_loss = min(known, default=None)
        self._end_epoch(last)
        if log or evaluate or measured:
            self.on_event(MetricsLogged(self._row(log, evaluate) | measured))
        if log and not last:
            self._reset("interval")
        if last or self.step % train.sample_every == 0:
            self.draw_samples(run)
        if save:
            self.save(run, self.held_out_loss if checkpoint.best_by == "held-out-loss" else score)

    def _agree(self, share: float, signal_number: int) -> tuple[float, int]:
        """The main process's clock and any process's signal decide for all, so that none steps on alone."""
        if self.accelerator.num_processes == 1:
            return share, signal_number
        main = self.accelerator.is_main_process
        values = torch.tensor([share if main else 0.0, float(signal_number)], device=self.device)
        gathered = self.accelerator.gather(values[None])
        return float(gathered[:, 0].max()), int(gathered[:, 1].max())

    def seconds(self) -> float:
        """Time in training, over all sessions of the run."""
        return self.seconds_before + time.monotonic() - self.started

    def _report_progress(self, first_share: float) -> None:
        elapsed, gained = time.monotonic() - self.started, self.share - first_share
        left = elapsed * (1 - self.share) / gained if gained > 0 else None
        self.on_event(TrainProgress(self.step, self.share, self._images_per_second(), left))

    def _images_per_second(self) -> float:
        return self.session_images / max(self.session_train_seconds, 1e-9)

    def _interrupt(self, run: RunDirectory, signal_number: int) -> None:
        if self.saved_step != self.step:
            self.save(run, None)
        message = f"Stopped and saved at step {self.step:,}."
        raise InterruptedRunError(message, f"Go on with: ddpm resume {run.path}", signal_number)

    # --------------------------------------------------------------------------------------------------------- metrics

    def _row(self, log: bool, evaluate: bool) -> dict[str, float | int | None]:
        images = self.step * self.config.train.batch_size
        row: dict[str, float | int | None] = {
            "step": self.step,
            "epoch": round(self.step / self.batches.steps_per_epoch, 4),
            "images": images,
            "seconds": round(self.seconds(), 3),
        }
        if log:
            self.last_loss = self._mean("interval")
            row |= {"loss": self.last_loss, "lr": self.lr(), "grad_norm": finite(self.grad_norm)}
            row |= {"images_per_second": round(self._images_per_second(), 1)}
        if evaluate and len(self.held_out_images):
            row["held_out_loss"] = self.held_out_loss
        if self.non_finite_steps:
            row["non_finite_steps"] = self.non_finite_steps
        return row

    def _mean(self, span: str) -> float | None:
        """Mean loss of the steps whose loss was finite, None if there were none."""
        return float(self.loss_sums[span]) / self.loss_steps[span] if self.loss_steps[span] else None

    def _reset(self, span: str) -> None:
        self.loss_sums[span].zero_()
        self.loss_steps[span] = 0

    def _end_epoch(self, last: bool) -> None:
        """Add a row to the history when an epoch is full; the last part of one is not kept, as the run may be extended."""
        per_epoch = self.batches.steps_per_epoch
        full = math.floor(self.step / per_epoch) > math.floor((self.step - 1) / per_epoch)
        if not (full or last):
            return
        row: dict[str, float | int | None] = {
            "epoch": math.floor(self.step / per_epoch) if full else round(self.step / per_epoch, 4),
            "step": self.step,
            "loss": self._mean("epoch"),
            "seconds": round(self.seconds(), 3),
        }
        if self.held_out_loss is not None:
            row |= {"held_out_loss": self.held_out_loss, "held_out_step": self.held_out_step}
        if full:
            self.history.append(row)
            self._reset("epoch")
        self.on_event(EpochEnded(self.history if full else [*self.history, row]))

    def measure_held_out_loss(self) -> float:
        """Mean loss of the EMA weights over the held-out images, each process taking its share."""
        count, rank, processes = len(self.held_out_images), self.accelerator.process_index, self.accelerator.num_processes
        part = slice(rank * count // processes, (rank + 1) * count // processes)
        batch = self.config.train.micro_batch_size or self.config.train.batch_size
        total = held_out_loss_sum(
            self.ema.model,
            self.held_out_images,
            self.schedule,
            self.loss,
            batch,
            part,
            self.held_out_labels,
        )
        return float(self.accelerator.reduce(total, "sum")) / count

    def measure_samples(self, run: RunDirectory, last: bool) -> dict[str, float]:
        """Metrics of samples of the EMA weights if they are due, by name; those that are not finite are left out."""
        every = self.config.train.evaluate_every
        if self.metrics is None or every is None or not (last or self.step % every == 0):
            return {}
        return {name: value for name, value in self.metrics.measure(self._trained(run)).items() if math.isfinite(value)}

    def _trained(self, run: RunDirectory) -> TrainedModel:
        """The EMA weights as they are now."""
        return TrainedModel(self.ema.model, self.schedule, self.config, self.image_shape, run.path, self.step, self.class_names)

    def draw_samples(self, run: RunDirectory) -> None:
        """Hand a grid of samples of the EMA weights to the listener, always from the same seeds."""
        if self.accelerator.is_main_process:
            trained = self._trained(run)
            seeds = range(self.config.train.sample_n)
            settings = self.config.sample.model_copy(update={"sampler": self.config.train.sampler})
            images = torch.cat(list(generate_samples(trained, seeds, settings))).numpy()
            path = run.samples_folder / f"step-{self.step:08d}.png"
            self.on_event(SamplesDrawn(np.ascontiguousarray(images), self.step, path, run.samples_png))
        self.accelerator.wait_for_everyone()

    def summary(self, run: RunDirectory) -> TrainSummary:
        """How the run stands now."""
        return TrainSummary(
            run=run.path,
            step=self.step,
            epochs=self.step / self.batches.steps_per_epoch,
            images=self.step * self.config.train.batch_size,
            seconds=self.seconds(),
            images_per_second=self._images_per_second(),
            loss=self.last_loss,
            held_out_loss=self.held_out_loss,
            best_held_out_loss=self.best_held_out_loss,
            non_finite_steps=self.non_finite_steps,
        )

    # ----------------------------------------------------------------------------------------------------- checkpoints

    def save(self, run: RunDirectory, score: float | None) -> None:
        """Write a checkpoint; `score` is what the best has the lowest of (checkpoint.best_by), at this very step.

        It is None if it was not measured or not finite; such a checkpoint is never the best.
        """
        best = self._has_improved(score)
        if best:
            self.best_saved_score = score
        if self.accelerator.is_main_process:
            tensors = {
                "model": self.model.state_dict(),
                "ema": self.ema.model.state_dict(),
                "optimizer": flatten_optimizer(self.optimizer.state_dict()),
            }
            if self.learner:
                tensors["schedule"] = self.learner.gamma.state_dict()
                tensors["schedule-optimizer"] = flatten_optimizer(self.learner.optimizer.state_dict())
            if history := self.timestep_sampler.state_dict():
                tensors["timesteps"] = history
            settings = self.config.checkpoint
            saved = save_checkpoint(
                run,
                self.step,
                tensors,
                self._state(),
                self.config_toml,
                keep_last=settings.keep_last,
                best=best and settings.keep_best,
            )
            self.on_event(CheckpointSaved(saved, self.step))
        self.saved_step = self.step
        self.accelerator.wait_for_everyone()

    def _has_improved(self, score: float | None) -> bool:
        """Whether a score is the lowest of all checkpoints so far."""
        return score is not None and (self.best_saved_score is None or score < self.best_saved_score)

    def _state(self) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        return {
            "step": self.step,
            "seconds": self.seconds(),
            "image_shape": list(self.image_shape),
            "data_sha256": self.data_sha256,
            "class_names": list(self.class_names),
            "ema_updates": self.ema.updates,
            "scaler": scaler.state_dict() if scaler is not None else None,
            "loss_sums": {span: float(value) for span, value in self.loss_sums.items()},
            "loss_steps": self.loss_steps,
            "history": self.history,
            "last_loss": self.last_loss,
            "last_held_out_loss": self.held_out_loss,
            "best_held_out_loss": self.best_held_out_loss,
            "held_out_step": self.held_out_step,
            "best_saved_loss": self.best_saved_score,
            "non_finite_steps": self.non_finite_steps,
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint.

        Raises:
            CheckpointError: If it holds another architecture.
        """
        load_weights(self.model, checkpoint.tensors("model"), checkpoint.path)
        load_weights(self.ema.model, checkpoint.tensors("ema"), checkpoint.path)
        self.optimizer.load_state_dict(unflatten_optimizer(checkpoint.tensors("optimizer"), self.optimizer))
        if self.learner:
            self._restore_schedule(self.learner, checkpoint)
        if self.timestep_sampler.state_dict():
            self.timestep_sampler.load_state_dict(checkpoint.tensors("timesteps"))
        state = checkpoint.state
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step = checkpoint.step
        self.seconds_before = state["seconds"]
        self.share = self.budget.share(self.step, self.seconds_before)
        self.ema.updates = state["ema_updates"]
        for span in self.loss_sums:
            self.loss_sums[span].fill_(state["loss_sums"][span])
            self.loss_steps[span] = state["loss_steps"][span]
        self.history = list(state["history"])
        self.last_loss = state["last_loss"]
        self.held_out_loss = state["last_held_out_loss"]
        self.best_held_out_loss = state["best_held_out_loss"]
        self.best_saved_score = state["best_saved_loss"]
        self.held_out_step = state["held_out_step"]
        self.non_finite_steps = state["non_finite_steps"]

    def _restore_schedule(self, learner: ScheduleLearner, checkpoint: Checkpoint) -> None:
        load_weights(learner.gamma, checkpoint.tensors("schedule"), checkpoint.path)
        moments = checkpoint.tensors("schedule-optimizer")
        learner.optimizer.load_state_dict(unflatten_optimizer(moments, learner.optimizer))
        learner.refresh()
        self.schedule = learner.schedule


def finite(value: float) -> float | None:
    """The number itself, or None where JSON has no word for it."""
    return value if math.isfinite(value) else None
