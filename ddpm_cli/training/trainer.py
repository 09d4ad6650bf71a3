"""Take the training step (DDPM, Alg. 1)."""

from __future__ import annotations

import math
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ddpm_cli.build.budget import Budget, lr_factor
from ddpm_cli.build.data import build_augmentation
from ddpm_cli.build.network import build_network, build_optimizer
from ddpm_cli.build.passes import build_side_by_side
from ddpm_cli.build.schedule import build_schedule, build_schedule_learner
from ddpm_cli.core.compute.compilation import compiled, wants_compiling
from ddpm_cli.core.compute.memory_format import place_network
from ddpm_cli.core.compute.muon import Muon
from ddpm_cli.core.compute.processors import Processors
from ddpm_cli.core.compute.seeds import generator, seed_of
from ddpm_cli.core.compute.sharding import is_sharded, shard, whole_tensor
from ddpm_cli.core.compute.side_by_side import SideBySide, computing_threads
from ddpm_cli.core.compute.skipping import step_if
from ddpm_cli.core.wording import counted
from ddpm_cli.data.batches import Batches, place
from ddpm_cli.diffusion.guidance import drop_labels, with_augmentation, with_labels
from ddpm_cli.diffusion.objectives.noise_draws import nearest_noise
from ddpm_cli.models.base import freeze, recompute_blocks
from ddpm_cli.results.data_change import FROM_THE_START, Since
from ddpm_cli.results.events import Incident, Listener, Notice, ignore
from ddpm_cli.training.averages.ema import Ema, PowerEma
from ddpm_cli.training.distillation.guide import build_guide
from ddpm_cli.training.health import Health
from ddpm_cli.training.loss_meter import LossMeter
from ddpm_cli.training.outcome import LateNumbers, Outcome

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.diffusion.denoise import Network
    from ddpm_cli.training.start.start import Start

LISTED_IMAGES = 100
"""Images of an incident that are listed, at most: a whole batch can be not finite."""
SUSPECTS = 5
"""Images that are listed where no single one is known to be at fault."""
LAG = 4
"""Steps that the host is ahead of the last one whose numbers it reads, on CUDA: so much work lies ready for the device."""

SECONDS_BETWEEN_LOOKS = 2.0
"""At what other programs take of the processors."""
LOST_TO_GIVE_WAY = 0.3
"""Part of the processors that others have when fewer threads are faster than as many as there are processors."""
OTHERS = (
    "Other programs keep the processors busy: from step {step:,} on, and while they do, {threads} instead of {wanted} will "
    "compute. The clock ends this run; one that steps end keeps its threads, and so its bits."
)


@dataclass(frozen=True)
class Draws:
    """Hold what is drawn for a batch: noise levels and their weights, [B], K draws of noise, [B, K, C, H, W], and labels, [B]."""

    t: Tensor
    weights: Tensor
    eps: Tensor
    labels: Tensor | None


class Trainer:
    """Hold model, optimizer, EMA and counters of one run, in memory, and take the step that moves them.

    Args:
        config: The resolved config.
        dataset: Its images.
        accelerator: Device, precision and processes.
        on_event: Told of incidents.
        network: Takes the place of the network of the config, and is called as that is.
        start: Trained weights to begin with; random ones if None.
        since: From where on its images are these.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        accelerator: Accelerator,
        on_event: Listener = ignore,
        network: nn.Module | None = None,
        start: Start | None = None,
        since: Since = FROM_THE_START,
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        self.on_event = on_event
        self.device: torch.device = accelerator.device
        self.scale = dataset.scale
        self.learner = build_schedule_learner(config, self.scale.levels)
        self.schedule = self.learner.schedule if self.learner else build_schedule(config.schedule)
        self.loss = config.objective.build_loss(self.scale.levels)
        self.autoguidance = config.objective.build_autoguidance()
        self.timestep_sampler = config.objective.build_timesteps(self.schedule.timesteps)
        self.coupling = config.objective.coupling.build()
        self.uncertainty = config.objective.weighting.build_uncertainty(self.device)
        self.image_shape = dataset.image_shape
        self.num_classes = config.model.resolved_classes()
        train = config.train
        self.batches = Batches(
            place(dataset.train.images, self.device),
            batch_size=train.batch_size,
            seed=train.seed,
            horizontal_flip=config.data.horizontal_flip,
            device=self.device,
            labels=dataset.train.labels,
            since=since,
            scale=dataset.scale,
            augmentation=build_augmentation(config.data, self.image_shape),
            on_grid=config.objective.loss.is_bound or self.learner is not None,
        )
        self.budget = Budget.of(train, len(dataset.train.images), since)

        self.model = network or self._new_network()
        if start is not None:
            start.put_into(self.model, self.learner)
            self.schedule = self.learner.schedule if self.learner else self.schedule
        if config.start.freeze is not None:
            freeze(self.model, config.start.freeze)
        self.ema = Ema(self.model, config.ema.decay, config.ema.warmup, self.device)
        self.averages = [PowerEma(self.model, width, self.device) for width in config.ema.widths]
        self.guide = build_guide(config, self.image_shape, self.schedule, self.device)
        if self.guide and start is not None:
            start.put_into(self.guide.network, None)
        sharded = train.sharding == "full" and accelerator.num_processes > 1
        if sharded:
            shard(self.model, accelerator)
            for average in (self.ema, *self.averages):
                shard(average.model, accelerator, reshard=False)
        else:
            place_network(self.model, self.device)
            for average in (self.ema, *self.averages):
                place_network(average.model, self.device)
        self.processors = Processors(torch.get_num_threads())
        self.lost = 0.0
        """Part of the processors that other programs had lately, in [0, 1]; 0 where the processors do not compute."""
        self.gives_way = False
        self._has_told_of_others = False
        # What is sharded is not to be wrapped for DDP, which is what Accelerate leaves out in evaluation.
        self.network = accelerator.prepare_model(self.model, evaluation_mode=sharded)
        self.side_by_side = build_side_by_side(config, self.network, accelerator, self.learner)
        self.predict: Network = self.network
        self.parameters = [*self.model.parameters()]
        self.optimizer = build_optimizer(config.optimizer, self.model, self.device)
        accelerator.prepare(self.optimizer)  # for its gradient scaler; stepping through it would read from the device

        self.step = 0
        self.share = 0.0
        self.losses = LossMeter()
        self.health = Health()
        self.grad_norm = 0.0
        self.outcomes: deque[Outcome] = deque()
        self.lag = LAG if self.device.type == "cuda" and self.learner is None else 0

    def _new_network(self) -> nn.Module:
        config = self.config
        torch.manual_seed(seed_of(config.train.seed, "weights"))
        network = build_network(config, self.image_shape)
        recompute_blocks(network, config.train.gradient_checkpointing)
        return network

    def train_step(self) -> None:
        """Draw a batch, steps and noise; take one optimizer step; move the EMA (DDPM, Alg. 1).

        A step whose loss or gradient is not finite is counted and moves nothing. On CUDA that is found out there, and the host
        hears of it `lag` steps later.
        """
        self._mind_other_programs()
        with self.computing(at_once=True):
            self._step()

    def _step(self) -> None:
        train = self.config.train
        if not getattr(self.model, "stateless", False):
            torch.manual_seed(seed_of(train.seed, "dropout", self.step, self.accelerator.process_index))
        if self.config.objective.loss.is_staged:
            self.loss = self.config.objective.build_loss_at(self.share)
        draws = generator(self.device, train.seed, "noise", self.step)
        t, weights = self.timestep_sampler.draw(train.batch_size, self.schedule, draws, self.device)
        candidates = self.config.objective.noise_candidates
        eps = torch.randn(train.batch_size, candidates, *self.image_shape, generator=draws, device=self.device)

        if self.autoguidance:
            self.autoguidance.follow(self.ema.model, self.share)
        shares = weights * self.uncertainty.weights(t, self.schedule) if self.uncertainty else weights
        losses = self.accumulate_gradients(t, shares, eps)
        self.timestep_sampler.update(t, losses)
        weighted = weights * losses
        loss = weighted.mean()
        norm, taken = self._optimizer_step(loss)
        if self.uncertainty:
            self.uncertainty.backward(t, self.schedule, losses, weights)
            step_if(taken, self.uncertainty.optimizer)
            self.uncertainty.optimizer.zero_grad()
        if self.learner:
            self.learner.step(t, self._sum) if taken else self.learner.discard()
            self.schedule = self.learner.schedule
        nearest = t.round().long().clamp(min=0) if t.is_floating_point() else t
        self.outcomes.append(Outcome(self.step, nearest, weighted, LateNumbers(loss, norm, taken)))
        self.step += 1
        self.settle(self.lag)

    @property
    def is_compiled(self) -> bool:
        """Tell whether the network's passes are compiled."""
        return self.predict is not self.network

    def compile(self) -> None:
        """Compile the network's passes, if the config says so; a rehearsal of a step takes all of them, and moves nothing."""
        train = self.config.train
        if not wants_compiling(train.compile, self.device, deterministic=train.deterministic):
            return
        if is_sharded(self.model) or self.learner:
            beside = "a learned schedule" if self.learner else 'train.sharding = "full"'
            self.on_event(Notice(f"A network beside {beside} is not compiled: it runs as it is."))
            return
        self.predict = compiled(self.network, self._rehearse, self.on_event)

    def _rehearse(self, network: Network) -> None:
        self.predict = network
        draws = generator(self.device, self.config.train.seed, "rehearsal")
        eps = torch.randn(self.config.train.batch_size, 1, *self.image_shape, generator=draws, device=self.device)
        t = torch.zeros(len(eps), dtype=torch.int64, device=self.device)
        self.accumulate_gradients(t, torch.ones(len(eps), device=self.device), eps)
        self.optimizer.zero_grad()

    def _mind_other_programs(self) -> None:
        """Look now and then at what other programs take of the processors; where the clock ends the run, leave them to those.

        With fewer threads sums are rounded otherwise: where steps end the run, it keeps its threads, and so its bits.
        """
        if self.device.type != "cpu" or self.accelerator.num_processes > 1 or self.processors.seconds < SECONDS_BETWEEN_LOOKS:
            return
        self.lost = self.processors.lost()
        if self.budget.steps is not None:
            return
        self.gives_way = self.lost > LOST_TO_GIVE_WAY
        if self.gives_way and not self._has_told_of_others:
            self._has_told_of_others = True
            fewer = counted(self.processors.left(self.lost), "thread")
            self.on_event(Notice(OTHERS.format(step=self.step + 1, threads=fewer, wanted=self.processors.wanted)))

    def computing(self, *, at_once: bool = False) -> AbstractContextManager[None]:
        """Compute with the threads that other programs leave, on a CPU; `at_once`: in several passes at once."""
        if self.device.type != "cpu":
            return nullcontext()
        if self.gives_way:
            return computing_threads(self.processors.left(self.lost))
        return computing_threads(self.side_by_side.threads if self.side_by_side and at_once else self.processors.wanted)

    def accumulate_gradients(self, t: Tensor, weights: Tensor, eps: Tensor) -> Tensor:
        """Run forward and backward passes of the batch, in parts.

        Args:
            t: Steps, [B].
            weights: Of the images, [B].
            eps: Draws of noise for each image, [B, K, C, H, W], of which the nearest to it counts.
        Returns:
            The loss of each image of all processes, [B].
        """
        labels = self.draw_labels()
        draws = Draws(t, weights, self._coupled(eps, labels), labels)
        losses = torch.zeros(len(t), device=self.device)
        parts = self._parts()
        for number, part in enumerate(parts, 1):
            # The last micro-batch may be smaller than the others, and no pass may be without an image.
            if self.side_by_side and not self.gives_way and part.stop - part.start >= len(self.side_by_side.networks):
                losses[part] = self._passes_at_once(self.side_by_side, part, draws)
                continue
            with self.accelerator.no_sync(self.network) if number < len(parts) else nullcontext():
                losses[part] = self.run_pass(self.predict, part, draws)
        total: Tensor = self.accelerator.reduce(losses, "sum")
        return total

    def _coupled(self, eps: Tensor, labels: Tensor | None) -> Tensor:
        """The draws of noise, [B, K, C, H, W], in the order in which the images of the global batch get them."""
        if self.coupling is None:
            return eps
        told = labels
        vectors = self.batches.vectors_at(self.step)
        if vectors is not None:  # samples are drawn with the vector 0: these must be told apart, not the others from each other
            changed = (vectors != 0).any(1).long()
            told = changed if labels is None else 2 * labels + changed
        return self.coupling(self.batches.images_at(self.step), eps[:, 0], told)[:, None]

    def _passes_at_once(self, side_by_side: SideBySide, rows: slice, draws: Draws) -> Tensor:
        parts = even_parts(rows, len(side_by_side.networks))
        return torch.cat(side_by_side.run(lambda network, number: self.run_pass(network, parts[number], draws)))

    def run_pass(self, network: Network, part: slice, draws: Draws) -> Tensor:
        """Run forward and backward pass of some rows of the global batch; returns the loss of each image, [rows]."""
        x_0, t = self.batches.images_at(self.step, part), draws.t[part]
        eps = nearest_noise(x_0, draws.eps[part]) if draws.eps.shape[1] > 1 else draws.eps[part, 0]
        labels = None if draws.labels is None else draws.labels[part]
        vector = self.batches.vectors_at(self.step, part)
        if self.autoguidance and self.autoguidance.guides:
            with self.accelerator.autocast():
                x_0, eps = self.autoguidance.aim(self.ema.model, x_0, t, eps, self.schedule, labels, vector)
        if self.guide:
            with self.accelerator.autocast():
                x_0, eps = self.guide.ends(x_0, t, eps, labels, vector)
        network = with_labels(with_augmentation(network, vector), labels)
        probe = self.learner.probe(network, x_0, t, eps) if self.learner else None
        losses = self.loss(probe or network, x_0, t, eps, self.schedule)
        loss = (draws.weights[part] * losses).sum() / len(draws.t)
        self.accelerator.backward(loss * self.accelerator.num_processes)
        if self.learner and probe:
            self.learner.collect(probe, part)
        return losses.detach()

    def draw_labels(self) -> Tensor | None:
        """Draw the labels of the global batch, some of them hidden; None if the model takes none."""
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
        own = even_parts(slice(0, size), processes)[rank]
        micro = self.config.train.micro_batch_size or size
        return [slice(start, min(start + micro, own.stop)) for start in range(own.start, own.stop, micro)]

    def _spread_matrices(self) -> None:
        """Let Muon compute in the threads that passes have, unless these give way."""
        if isinstance(self.optimizer, Muon):
            self.optimizer.each = self.side_by_side.each if self.side_by_side and not self.gives_way else map

    def _optimizer_step(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        """Move the weights and their average by the gradient, if it and the loss are finite.

        Returns:
            The norm of the gradient before it was clipped, and whether the step was taken; scalars on the device.
        """
        limit = self.config.train.max_grad_norm
        norm = whole_tensor(self.accelerator.clip_grad_norm_(self.parameters, math.inf if limit is None else limit))
        taken = torch.isfinite(loss) & torch.isfinite(norm)
        factor = lr_factor(self.config.optimizer, self.step, self.share)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self._spread_matrices()
        step_if(taken, self.optimizer)
        if self.accelerator.scaler:
            self.accelerator.scaler.update()
        self.optimizer.zero_grad()
        for average in (self.ema, *self.averages):
            average.update(self.parameters, taken)
        return norm, taken

    def lr(self) -> float:
        """Tell the learning rate of the next step."""
        optimizer = self.config.optimizer
        return optimizer.lr * lr_factor(optimizer, self.step, self.share)

    def settle(self, left: int = 0) -> None:
        """Take note of what the steps came to, but for the last `left` of them; none after one at which the run has diverged."""
        while len(self.outcomes) > left and not self.health.has_diverged:
            self._take_note(self.outcomes.popleft())

    @property
    def settled_step(self) -> int:
        """Count the steps of which has been taken note."""
        return self.step - len(self.outcomes)

    def _take_note(self, outcome: Outcome) -> None:
        """Count a step's loss, and tell of what is wrong with the step and with which images of it."""
        loss, self.grad_norm, taken = outcome.numbers.read()
        self.losses.add(loss)
        scaled = self.accelerator.scaler is not None
        kind = self.health.judge(outcome.step + 1, loss, taken=bool(taken), scaled=scaled)
        if kind is None:
            return
        rows = (~torch.isfinite(outcome.losses)).nonzero().flatten().cpu()
        if not len(rows):
            rows = outcome.losses.topk(min(SUSPECTS, len(outcome.losses))).indices.cpu()
        listed = rows[:LISTED_IMAGES]
        self.on_event(
            Incident(
                kind=kind,
                step=outcome.step + 1,
                loss=finite(loss),
                grad_norm=finite(self.grad_norm),
                timesteps=tuple(outcome.t.cpu()[listed].tolist()),
                images=tuple(self.batches.indices(outcome.step)[listed.numpy()].tolist()),
                affected=len(rows),
            )
        )


def even_parts(rows: slice, count: int) -> list[slice]:
    """Split rows into `count` parts of nearly the same number."""
    first, size = rows.start, rows.stop - rows.start
    return [slice(first + number * size // count, first + (number + 1) * size // count) for number in range(count)]


def finite(value: float) -> float | None:
    """Keep a number, or None where JSON has no word for it."""
    return value if math.isfinite(value) else None
