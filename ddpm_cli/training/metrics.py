"""Cheap metrics of samples while a model trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddpm_cli.core.compute.team import Team
from ddpm_cli.evaluation.extractors import Extractors, has_bundled
from ddpm_cli.evaluation.references import real_images
from ddpm_cli.metrics.classifier_network import require_size
from ddpm_cli.metrics.frechet import FrechetStatistics, frechet_distance
from ddpm_cli.results.events import Listener, ignore
from ddpm_cli.sampling.generate import generate_samples

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.sampling.trained_model import TrainedModel


class TrainingMetrics:
    """What `train.evaluate_metrics` asks for, measured on samples that always have the same seeds.

    The classifier and the statistics of the training images are made ready here, once, so that measuring is drawing samples.
    The seeds are the images' own: no random number of the training is used up.

    Args:
        config: Of the run.
        dataset: Its images.
        accelerator: The processes, which share the samples.
        on_event: Told if a classifier has to be trained for these images first.
    Raises:
        RequestError: If the images are too small for one.
    """

    def __init__(self, config: Config, dataset: Dataset, accelerator: Accelerator, on_event: Listener = ignore) -> None:
        self._accelerator, self._names, self._n = accelerator, config.train.evaluate_metrics, config.train.evaluate_n
        self._settings = config.sample.model_copy(update={"sampler": config.train.sampler})
        team, device = Team.of(accelerator), accelerator.device
        extractors = Extractors(dataset, device, fit=not has_bundled(dataset), team=team, on_event=on_event)
        self._extractor = extractors.of("classifier")
        reference = real_images(dataset, "train", self._settings.batch_size)
        if team.is_main:  # the others find it in the cache
            reference.statistics(self._extractor)
        team.wait()
        self._reference = reference.statistics(self._extractor)

    def draw(self, trained: TrainedModel, check: Callable[[], None] = lambda: None) -> FrechetStatistics:
        """Draw this process's share of the samples and look at them.

        Args:
            trained: The averaged weights as they are now.
            check: Called after each denoising step; what it raises ends the drawing.
        """
        size, rank, processes = self._settings.batch_size, self._accelerator.process_index, self._accelerator.num_processes
        statistics = FrechetStatistics(self._extractor.dimensions)
        for first in range(rank * size, self._n, processes * size):
            for images in generate_samples(
                trained, range(first, min(first + size, self._n)), self._settings, on_event=lambda _: check()
            ):
                statistics.add(self._extractor(images).features)
        return statistics

    def values(self, statistics: FrechetStatistics) -> dict[str, float]:
        """The value of each metric by name, the same on every process; all take part.

        Args:
            statistics: Of this process's share.
        """
        distance = frechet_distance(self._reference, self._merged(statistics))
        return dict.fromkeys(self._names, distance)

    def _merged(self, own: FrechetStatistics) -> FrechetStatistics:
        """The statistics of all processes, put together in the order of their ranks."""
        if self._accelerator.num_processes == 1:
            return own
        state = own.tensors()
        flat = torch.cat([tensor.double().flatten() for tensor in state.values()])
        gathered: Tensor = self._accelerator.gather(flat[None].to(self._accelerator.device))
        merged = FrechetStatistics(self._extractor.dimensions)
        for row in gathered.cpu():
            parts = row.split([tensor.numel() for tensor in state.values()])
            whole = {name: part.view(like.shape).to(like.dtype) for (name, like), part in zip(state.items(), parts, strict=True)}
            merged.merge(FrechetStatistics.from_tensors(whole))
        return merged


def check_training_metrics(config: Config, dataset: Dataset) -> None:
    """Refuse images that no classifier can be trained on, where the config asks for what needs one.

    Raises:
        RequestError: Naming the smallest size.
    """
    if config.train.evaluate_every and not has_bundled(dataset):
        require_size(*dataset.image_shape[1:])


def training_metrics(config: Config, dataset: Dataset, accelerator: Accelerator, on_event: Listener) -> TrainingMetrics | None:
    """What the config asks for, or None if it asks for nothing."""
    return TrainingMetrics(config, dataset, accelerator, on_event) if config.train.evaluate_every else None
