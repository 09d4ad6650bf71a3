"""Let a teacher say where the trajectories of training end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ddpm_cli.build.network import build_network
from ddpm_cli.config.schema.objective import ConsistencyLoss
from ddpm_cli.config.schema.sample import GuidanceConfig
from ddpm_cli.core.compute.memory_format import place_network
from ddpm_cli.diffusion.denoise import predictor
from ddpm_cli.diffusion.guidance import guidance_shift
from ddpm_cli.diffusion.objectives.consistency import moved_ends

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.diffusion.forward import Levels
    from ddpm_cli.diffusion.schedules import NoiseSchedule


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
        schedule: NoiseSchedule,
        device: torch.device,
    ) -> None:
        self.network = build_network(config, image_shape).eval().requires_grad_(False)
        place_network(self.network, device)
        self._schedule = schedule
        self._predict = predictor(self.network, schedule, config.objective.build_prediction())
        self._ends_at_teacher = loss.ends == "teacher"
        classes = config.model.resolved_classes()
        guided = classes is not None and loss.guidance != GuidanceConfig()
        self._shift = guidance_shift(self._predict, classes or 0, **loss.guidance.model_dump()) if guided else None

    @torch.no_grad()
    def ends(self, x_0: Tensor, t: Tensor, eps: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Move images and noise, see `moved_ends`: to what the teacher makes of x_t, or by what its guidance adds to that."""

        def end(x_0: Tensor, x_t: Tensor, at: Levels) -> Tensor:
            if self._ends_at_teacher:
                x_0 = self._predict(x_t, at, labels).x0_hat
            return x_0 if self._shift is None or labels is None else x_0 + self._shift(x_t, at, labels)

        return moved_ends(end, x_0, t, eps, self._schedule)


def build_guide(config: Config, image_shape: tuple[int, int, int], schedule: NoiseSchedule, device: torch.device) -> Guide | None:
    """Build what the training of a config asks its teacher by; None if it asks none."""
    loss = config.objective.loss
    if not isinstance(loss, ConsistencyLoss) or not loss.needs_teacher:
        return None
    return Guide(config, loss, image_shape, schedule, device)
