"""Bring a model that was taken over to other data: the heights of its attention, and whether it takes labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm_cli.config.schema.sample import GuidanceConfig
from ddpm_cli.results.events import Listener, Notice

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.training.start.source import Source


def adapted(config: Config, source: Source, dataset: Dataset, on_event: Listener) -> Config:
    """Bring the model of a new run to its data, where it is that of the source; write down where that lies.

    Args:
        config: Of the new run, with model.num_classes as it was asked for.
        source: Of its weights.
        dataset: Its data.
        on_event: Told of what changes.
    """
    model = config.model
    if model.num_classes == "auto" and source.class_names and len(dataset.train.class_names) < 2:
        if config.sample.guidance != GuidanceConfig():
            return config  # guidance needs classes, and their absence is told as a fault
        model = model.model_copy(update={"num_classes": None})
        on_event(Notice(f"{dataset.name} has no classes: the model takes no labels, and those of the source are not taken."))
    fitting = source.config.model.for_images(source.image_shape, dataset.image_shape)
    if fitting != source.config.model and _without_classes(model) == _without_classes(source.config.model):
        model = fitting.model_copy(update={"num_classes": model.num_classes})
    start = config.start.model_copy(update={"weights": source.path})
    return config.model_copy(update={"model": model, "start": start})


def _without_classes(model: object) -> object:
    return model.model_copy(update={"num_classes": None})  # type: ignore[attr-defined]
