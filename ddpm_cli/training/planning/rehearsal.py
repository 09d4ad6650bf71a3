"""Rehearse passes through a network as training and sampling make them, to see what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn, optim

from ddpm_cli.build.data import build_augmentation
from ddpm_cli.build.network import build_network, build_optimizer
from ddpm_cli.build.passes import build_side_by_side
from ddpm_cli.build.schedule import build_schedule, build_schedule_learner
from ddpm_cli.core.compute.memory_format import place_network
from ddpm_cli.diffusion.denoise import make_denoise, predictor
from ddpm_cli.diffusion.forward import at_least_float32
from ddpm_cli.diffusion.guidance import with_augmentation, with_labels
from ddpm_cli.models.base import freeze, recompute_blocks
from ddpm_cli.training.distillation.guide import build_guide

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.core.compute.side_by_side import SideBySide
    from ddpm_cli.diffusion.denoise import Network
    from ddpm_cli.diffusion.levels import Schedule
    from ddpm_cli.diffusion.objectives.learned_schedule import ScheduleLearner
    from ddpm_cli.training.distillation.guide import Guide


@dataclass(frozen=True)
class Rehearsal:
    """Rehearse with a network as training does, for images of nothing; weights, schedule and counters stay as they are.

    Attributes:
        config: Of the run.
        network: In training mode, on its device.
        image_shape: Channels, height and width.
        schedule: The noise schedule.
        learner: Of a learned schedule.
        guide: Of a guided distillation.
        accelerator: Device and precision.
    """

    config: Config
    network: nn.Module
    image_shape: tuple[int, int, int]
    schedule: Schedule
    learner: ScheduleLearner | None
    guide: Guide | None
    accelerator: Accelerator

    @classmethod
    def of(cls, config: Config, image_shape: tuple[int, int, int], accelerator: Accelerator) -> Rehearsal:
        """Rehearse with a new network like that which the config describes."""
        network = build_network(config, image_shape)
        place_network(network, accelerator.device)
        recompute_blocks(network, config.train.gradient_checkpointing)
        if config.start.freeze is not None:
            freeze(network, config.start.freeze)
        learner = build_schedule_learner(config)
        schedule = learner.schedule if learner else build_schedule(config.schedule)
        guide = build_guide(config, image_shape, schedule, accelerator.device)
        return cls(config, network, image_shape, schedule, learner, guide, accelerator)

    @property
    def weight_bytes(self) -> int:
        """Count the bytes of the network's weights."""
        return sum(parameter.nbytes for parameter in self.network.parameters())

    @property
    def gradient_bytes(self) -> int:
        """Count the bytes of the gradients: of the weights that are not frozen."""
        return sum(parameter.nbytes for parameter in self.network.parameters() if parameter.requires_grad)

    def optimizer(self) -> optim.Adam:
        """Build the run's optimizer for this network."""
        return build_optimizer(self.config.optimizer, self.network, self.accelerator.device)

    @cached_property
    def side_by_side(self) -> SideBySide | None:
        """Build what computes a batch in several passes at once, where training does."""
        return build_side_by_side(self.config, self.network, self.accelerator, self.learner)

    @property
    def passes_at_once(self) -> int:
        """Count the passes that compute a micro-batch."""
        return len(self.side_by_side.networks) if self.side_by_side else 1

    def train_pass_as_training_does(self, images: int) -> None:
        """Run forward and backward pass of a micro-batch like `train_pass`, on a CPU in several passes at once."""
        if self.side_by_side is None:
            self.train_pass(images)
            return
        each = max(1, images // self.passes_at_once)
        self.side_by_side.run(lambda network, _: self.train_pass(each, network))

    def train_pass(self, images: int, twin: nn.Module | None = None) -> None:
        """Run forward and backward pass of a micro-batch; the gradients stay, and a second pass adds to them.

        Args:
            images: Of the micro-batch.
            twin: Takes the place of the network, whose weights it has.
        """
        x_0, t, labels = self._inputs(images)
        vector = self._vector(images)
        network = with_labels(with_augmentation(self._cast(twin or self.network), vector), labels)
        eps = torch.zeros_like(x_0)
        if self.guide:
            with self.accelerator.autocast():
                x_0, eps = self.guide.ends(x_0, t, eps, labels, vector)
        probe = self.learner.probe(network, x_0, t, eps) if self.learner else None
        losses = self.config.objective.build_loss()(probe or network, x_0, t, eps, self.schedule)
        torch.autograd.backward(losses.mean())

    def _cast(self, network: Network) -> Network:
        """Let autocast reach each pass by itself, as Accelerate does: what it keeps of a pass without gradients has none."""

        def passed(*inputs: Tensor, **conditions: Tensor) -> Tensor:
            with self.accelerator.autocast():
                return at_least_float32(network(*inputs, **conditions))

        return passed

    @torch.no_grad()
    def held_out_pass(self, images: int) -> None:
        """Compute the loss of held-out images."""
        x_0, t, labels = self._inputs(images)
        self.config.objective.build_loss()(with_labels(self.network, labels), x_0, t, torch.zeros_like(x_0), self.schedule)

    @torch.no_grad()
    def sample_pass(self, images: int) -> None:
        """Denoise by one step, guided as the config says."""
        x_t, _, labels = self._inputs(images)
        settings = self.config.sample
        predict = predictor(self.network, self.schedule, self.config.objective.build_prediction())
        predict = settings.guidance.build(predict, self.config.model.resolved_classes())
        make_denoise(predict, self.schedule, threshold=settings.threshold.build(), labels=labels)(x_t, self.schedule.at(0))

    def drop_gradients(self) -> None:
        """Free what `train_pass` left."""
        self.network.zero_grad(set_to_none=True)

    def _vector(self, images: int) -> Tensor | None:
        """How images of nothing were augmented: not at all, of which the network is told if it takes that."""
        augmentation = build_augmentation(self.config.data, self.image_shape)
        return None if augmentation is None else torch.zeros(images, augmentation.vector_size, device=self.accelerator.device)

    def _inputs(self, images: int) -> tuple[Tensor, Tensor, Tensor | None]:
        device = self.accelerator.device
        t = torch.zeros(images, dtype=torch.int64, device=device)
        return torch.zeros(images, *self.image_shape, device=device), t, None if self.config.model.resolved_classes() is None else t
