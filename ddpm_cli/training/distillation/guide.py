"""Let a guided teacher say where the trajectories of training end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm_cli.build.network import build_network
from ddpm_cli.config.schema.objective import ConsistencyLoss
from ddpm_cli.config.schema.sample import GuidanceConfig
from ddpm_cli.core.compute.memory_format import place_network
from ddpm_cli.diffusion.denoise import predictor
from ddpm_cli.diffusion.guidance import guidance_shift
from ddpm_cli.diffusion.objectives.consistency import guided_ends

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.diffusion.schedules import NoiseSchedule


class Guide:
    """Hold the network of a teacher, which is never trained, and move images and noise to where its guidance leads.

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
        classes = config.model.resolved_classes()
        if classes is None:
            raise ValueError("guidance needs classes")
        predict = predictor(self.network, schedule, config.objective.build_prediction())
        self._shift = guidance_shift(predict, classes, **loss.guidance.model_dump())

    def ends(self, x_0: Tensor, t: Tensor, eps: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Move images and noise, see `guided_ends`."""
        return guided_ends(self._shift, x_0, t, eps, labels, self._schedule)


def build_guide(config: Config, image_shape: tuple[int, int, int], schedule: NoiseSchedule, device: torch.device) -> Guide | None:
    """Build what guides the training of a config; None if nothing does."""
    loss = config.objective.loss
    if not isinstance(loss, ConsistencyLoss) or loss.guidance == GuidanceConfig():
        return None
    return Guide(config, loss, image_shape, schedule, device)
