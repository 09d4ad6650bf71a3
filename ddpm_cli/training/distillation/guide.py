"""Let a teacher say where the trajectories of training end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ddpm_cli.build.network import build_network
from ddpm_cli.config.schema.objective import ConsistencyLoss
from ddpm_cli.config.schema.sample import GuidanceConfig
from ddpm_cli.core.compute.memory_format import place_network
from ddpm_cli.diffusion.denoise import predictor
from ddpm_cli.diffusion.guidance import guidance_shift, with_augmentation
from ddpm_cli.diffusion.objectives.consistency import moved_ends

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.diffusion.forward import Levels
    from ddpm_cli.diffusion.levels import Schedule


class Guide:
    """Hold the network of a teacher, which is never trained, and move images and noise to where it leads.

    Args:
        config: Of the run.
        loss: Its loss.
        image_shape: Channels, height and width.
        schedule: The noise schedule.
        device: Where the network goes.
    """

    def __init__(
        self,
        config: Config,
        loss: ConsistencyLoss,
        image_shape: tuple[int, int, int],
        schedule: Schedule,
        device: torch.device,
    ) -> None:
        self.network = build_network(config, image_shape).eval().requires_grad_(False)
        place_network(self.network, device)
        self._schedule = schedule
        self._prediction = config.objective.build_prediction()
        self._loss = loss
        self._classes = None if loss.guidance == GuidanceConfig() else config.model.resolved_classes()

    @torch.no_grad()
    def ends(
        self, x_0: Tensor, t: Tensor, eps: Tensor, labels: Tensor | None, augmentation: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Move images and noise, see `moved_ends`: to what the teacher makes of x_t, or by what its guidance adds to that."""
        predict = predictor(with_augmentation(self.network, augmentation), self._schedule, self._prediction)

        def end(x_0: Tensor, x_t: Tensor, at: Levels) -> Tensor:
            if self._loss.ends == "teacher":
                x_0 = predict(x_t, at, labels).x0_hat
            if self._classes is None or labels is None:
                return x_0
            return x_0 + guidance_shift(predict, self._classes, **self._loss.guidance.model_dump())(x_t, at, labels)

        return moved_ends(end, x_0, t, eps, self._schedule)


def build_guide(config: Config, image_shape: tuple[int, int, int], schedule: Schedule, device: torch.device) -> Guide | None:
    """Build what the training of a config asks its teacher by; None if it asks none."""
    loss = config.objective.loss
    if not isinstance(loss, ConsistencyLoss) or not loss.needs_teacher:
        return None
    return Guide(config, loss, image_shape, schedule, device)
