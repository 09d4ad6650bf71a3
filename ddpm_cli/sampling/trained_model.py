"""Hold a network with all that is needed to sample from it, and ask it for estimates."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ddpm_cli.data.scale import USUAL, Scale
from ddpm_cli.diffusion.denoise import Predict, make_denoise, predictor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.diffusion.denoise import Network
    from ddpm_cli.diffusion.forward import Levels
    from ddpm_cli.diffusion.levels import Schedule
    from ddpm_cli.diffusion.prediction import Denoised


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
        width: Of the power-function average that its weights are, see `ddpm ema`; None for others.
        guide: The weaker model that its samples are led away from, see `guide.load_guide`.
        runs: The folder of runs that it was looked for in.
        scale: Which values its images are stored in, and which of them are -1 and 1.
    """

    network: nn.Module
    schedule: Schedule
    config: Config
    image_shape: tuple[int, int, int]
    origin: Path
    step: int
    class_names: tuple[str, ...]
    ema: bool = field(default=True, kw_only=True)
    schedule_weights: Mapping[str, Tensor] | None = field(default=None, kw_only=True)
    fast: Network | None = field(default=None, kw_only=True)
    width: float | None = field(default=None, kw_only=True)
    guide: Guide | None = field(default=None, kw_only=True)
    runs: Path = field(default=Path("runs"), kw_only=True)
    scale: Scale = field(default=USUAL, kw_only=True)

    @property
    def device(self) -> torch.device:
        """Tell where its network is."""
        return next(self.network.parameters()).device

    @property
    def num_classes(self) -> int | None:
        """Count the classes that its labels are of; None if it takes no labels."""
        return self.config.model.resolved_classes()

    @property
    def schedule_of_guide(self) -> Schedule | None:
        """Give the noise schedule of its guide; None if it has none, or its schedule is the same."""
        if self.guide is None or np.array_equal(self.guide.model.schedule.identity, self.schedule.identity):
            return None
        return self.guide.model.schedule


@dataclass(frozen=True)
class Guide:
    """Hold a weaker model that guides another.

    Attributes:
        model: It, with its averaged weights.
        name: What figures call it, see `guide.guide_name`.
    """

    model: TrainedModel
    name: str


def model_sha256(trained: TrainedModel) -> str:
    """Sum weights, schedule and what the network predicts, hexadecimal: all of a model that its samples depend on."""
    objective = trained.config.objective.model_dump(mode="json")
    if objective["parameterization"].get("level_input") == "step":  # as where nothing was said of it, whose sums stay
        del objective["parameterization"]["level_input"]
    if objective["coupling"] == {"kind": "independent"}:  # as before there was another
        del objective["coupling"]
    digest = hashlib.sha256(json.dumps(objective).encode())
    digest.update(np.ascontiguousarray(trained.schedule.identity).tobytes())
    digest.update("".join(map(str, trained.scale.facts().values())).encode())
    for name, weight in trained.network.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def guided_predictor(trained: TrainedModel, settings: SampleConfig) -> Predict:
    """Guide the estimates of a model's network as the settings say: by its class first, then by its guide.

    Raises:
        ValueError: If the settings name a guide that was not loaded, see `guide.load_guide`.
    """
    predict = settings.guidance.build(_predictor(trained), trained.num_classes)
    if settings.guide.model is None:
        return predict
    if trained.guide is None:
        raise ValueError(f"the guide {settings.guide.model} is not loaded")
    any_class = trained.num_classes is None or settings.guidance.scale == 0.0
    return settings.guide.build(predict, _of_guide(trained.guide.model, any_class=any_class), trained.schedule_of_guide)


def _predictor(trained: TrainedModel) -> Predict:
    return predictor(trained.fast or trained.network, trained.schedule, trained.config.objective.build_prediction())


def _of_guide(guide: TrainedModel, *, any_class: bool) -> Predict:
    """The estimates of a guide, which may know no classes, or is to make images of any."""
    predict, classes = _predictor(guide), guide.num_classes

    def predict_of_guide(x_t: Tensor, at: Levels, labels: Tensor | None) -> Denoised:
        if classes is None:
            return predict(x_t, at, None)
        if any_class:
            labels = torch.full(x_t.shape[:1], classes, dtype=torch.int64, device=x_t.device)
        return predict(x_t, at, labels)

    return predict_of_guide


@torch.no_grad()
def rehearse(trained: TrainedModel, settings: SampleConfig, images: int) -> None:
    """Denoise so many images of nothing by one step, to see whether there is memory for it."""
    device = trained.device
    x_t = torch.zeros(images, *trained.image_shape, device=device)
    labels = None if trained.num_classes is None else torch.zeros(images, dtype=torch.int64, device=device)
    predict = guided_predictor(replace(trained, fast=None), settings)
    make_denoise(predict, trained.schedule, threshold=settings.threshold.build(), labels=labels)(x_t, trained.schedule.at(0))
