"""Hold a network with all that is needed to sample from it, and ask it for estimates."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ddpm_cli.diffusion.denoise import Predict, make_denoise, predictor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.diffusion.denoise import Network
    from ddpm_cli.diffusion.schedules import NoiseSchedule


@dataclass(frozen=True)
class TrainedModel:
    """Hold a network with all that is needed to sample from it.

    Attributes:
        network: In evaluation mode, on its device.
        schedule: The noise schedule that it was trained with.
        config: The config that it was trained with.
        image_shape: Channels, height and width of its images.
        origin: The run, checkpoint or file that it came from.
        step: Optimizer steps that it was trained for.
        class_names: Name of each class of its data.
        ema: Whether its weights are the averaged ones.
        schedule_weights: Those of a learned schedule's network; None if the schedule is not learned.
        fast: What stands in for the network in sampling, see `with_fast_network`; None for the network itself.
    """

    network: nn.Module
    schedule: NoiseSchedule
    config: Config
    image_shape: tuple[int, int, int]
    origin: Path
    step: int
    class_names: tuple[str, ...]
    ema: bool = field(default=True, kw_only=True)
    schedule_weights: Mapping[str, Tensor] | None = field(default=None, kw_only=True)
    fast: Network | None = field(default=None, kw_only=True)

    @property
    def device(self) -> torch.device:
        """Tell where its network is."""
        return next(self.network.parameters()).device

    @property
    def num_classes(self) -> int | None:
        """Count the classes that its labels are of; None if it takes no labels."""
        return self.config.model.resolved_classes()


def guided_predictor(trained: TrainedModel, settings: SampleConfig) -> Predict:
    """Guide the estimates of a model's network as the settings say."""
    predict = predictor(trained.fast or trained.network, trained.schedule, trained.config.objective.build_prediction())
    return settings.guidance.build(predict, trained.num_classes)


@torch.no_grad()
def rehearse(trained: TrainedModel, settings: SampleConfig, images: int) -> None:
    """Denoise so many images of nothing by one step, to see whether there is memory for it."""
    device = trained.device
    x_t = torch.zeros(images, *trained.image_shape, device=device)
    labels = None if trained.num_classes is None else torch.zeros(images, dtype=torch.int64, device=device)
    predict = guided_predictor(replace(trained, fast=None), settings)
    make_denoise(predict, trained.schedule, threshold=settings.threshold.build(), labels=labels)(x_t, trained.schedule.at(0))
