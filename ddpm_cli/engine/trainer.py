"""The training step (DDPM, Alg. 1)."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING

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
from ddpm_cli.engine.health import Health
from ddpm_cli.engine.loss_meter import LossMeter
from ddpm_cli.engine.memory_format import place_network
from ddpm_cli.engine.seeds import generator, seed_of
from ddpm_cli.engine.sharding import shard, whole_number
from ddpm_cli.events import Incident, Listener, ignore

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema import Config
    from ddpm_cli.data.images import Dataset

LISTED_IMAGES = 100
"""Images of an incident that are listed, at most: a whole batch can be not finite."""
SUSPECTS = 5
"""Images that are listed where no single one is known to be at fault."""


class Trainer:
    """Model, optimizer, EMA and counters of one run, in memory, and the step that moves them.

    Args:
        config: The resolved config.
        dataset: Its images.
        accelerator: Device, precision and processes.
        on_event: Told of incidents.
    """

    def __init__(self, config: Config, dataset: Dataset, accelerator: Accelerator, on_event: Listener = ignore) -> None:
        self.config = config
        self.accelerator = accelerator
        self.on_event = on_event
        self.device: torch.device = accelerator.device
        self.learner = build_schedule_learner(config)
        self.schedule = self.learner.schedule if self.learner else build_schedule(config.schedule)
        self.loss = build_loss(config.objective)
        self.timestep_sampler = build_timestep_sampler(config.objective.timesteps, self.schedule.timesteps)
        self.image_shape = dataset.image_shape
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
        self.budget = Budget.of(train, len(dataset.train.images))

        torch.manual_seed(seed_of(train.seed, "weights"))
        learned_variance = config.objective.reverse_variance == "learned-range"
        self.model = build_model(config.model, self.image_shape, learned_variance=learned_variance)
        self.ema = Ema(self.model, config.ema.decay, config.ema.warmup)
        self.model.recompute_stages(train.gradient_checkpointing)
        sharded = train.sharding == "full" and accelerator.num_processes > 1
        if sharded:
            shard(self.model, accelerator)
            shard(self.ema.model, accelerator, reshard=False)
        else:
            place_network(self.model, self.device)
            place_network(self.ema.model, self.device)
        # What is sharded is not to be wrapped for DDP, which is what Accelerate leaves out in evaluation.
        self.network = accelerator.prepare_model(self.model, evaluation_mode=sharded)
        self.optimizer = accelerator.prepare(build_optimizer(config.optimizer, self.model.parameters()))

        self.step = 0
        self.share = 0.0
        self.losses = LossMeter(self.device)
        self.health = Health()
        self.grad_norm = 0.0

    def train_step(self) -> None:
        """Draw a batch, steps and noise; take one optimizer step; move the EMA (DDPM, Alg. 1).

        A step whose loss or gradient is not finite is counted and moves nothing.
        """
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
        weighted = weights * losses
        loss = weighted.mean()
        self.losses.add(loss)
        taken = self._optimizer_step(math.isfinite(loss))
        if self.learner:
            self.learner.step(t, self._sum) if taken else self.learner.discard()
            self.schedule = self.learner.schedule
        self._watch(t, weighted, float(loss), taken)
        self.step += 1

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

    def _optimizer_step(self, finite_loss: bool) -> bool:
        """Move the weights and their average by the gradient; False if that cannot be done."""
        limit = self.config.train.max_grad_norm
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), math.inf if limit is None else limit)
        self.grad_norm = whole_number(norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr()
        scaler, finite = self.accelerator.scaler, finite_loss and math.isfinite(self.grad_norm)
        if finite:
            self.optimizer.step()
        elif scaler:  # without a step of the optimizer nothing else would lower its scale
            scaler.update()
        taken = finite and not self.accelerator.optimizer_step_was_skipped
        if taken:
            self.ema.update(self.model.parameters())
        self.optimizer.zero_grad()
        return taken

    def lr(self) -> float:
        """Learning rate of the next step."""
        optimizer = self.config.optimizer
        return optimizer.lr * lr_factor(optimizer, self.step, self.share)

    def _watch(self, t: Tensor, losses: Tensor, loss: float, taken: bool) -> None:
        """Tell of what is wrong with the step, and with which images of it."""
        scaled = self.accelerator.scaler is not None
        kind = self.health.judge(self.step + 1, loss, taken=taken, scaled=scaled)
        if kind is None:
            return
        rows = (~torch.isfinite(losses)).nonzero().flatten().cpu()
        if not len(rows):
            rows = losses.topk(min(SUSPECTS, len(losses))).indices.cpu()
        listed = rows[:LISTED_IMAGES]
        self.on_event(
            Incident(
                kind=kind,
                step=self.step + 1,
                loss=finite(loss),
                grad_norm=finite(self.grad_norm),
                timesteps=tuple(t.cpu()[listed].tolist()),
                images=tuple(self.batches.indices(self.step)[listed.numpy()].tolist()),
                affected=len(rows),
            )
        )


def finite(value: float) -> float | None:
    """The number itself, or None where JSON has no word for it."""
    return value if math.isfinite(value) else None
