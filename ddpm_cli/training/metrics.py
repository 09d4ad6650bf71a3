"""Measure cheap metrics of samples while a model trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from accelerate.utils import gather_object
from torch import Tensor

from ddpm_cli.core.compute.team import Team
from ddpm_cli.core.io.files import readable
from ddpm_cli.errors import RequestError
from ddpm_cli.evaluation.extractors import Extractors, has_bundled
from ddpm_cli.evaluation.references import real_images
from ddpm_cli.metrics.classifier_network import require_size
from ddpm_cli.metrics.feature_statistics import FrechetStatistics
from ddpm_cli.metrics.features import Features
from ddpm_cli.metrics.registry import in_training
from ddpm_cli.results.events import Listener, ignore
from ddpm_cli.sampling.generate import generate_samples

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.metrics.features import FeatureExtractor
    from ddpm_cli.sampling.trained_model import TrainedModel


@dataclass(frozen=True)
class Seen:
    """Hold what the classifier said of samples; a `FeatureSource`.

    Attributes:
        of_all: Mean and covariance of their features.
        batches: Features and logits, on the CPU.
    """

    of_all: FrechetStatistics
    batches: list[Features]

    @property
    def count(self) -> int:
        """Count the samples."""
        return self.of_all.count

    def add(self, seen: Features) -> None:
        """Add what was said of a batch."""
        self.of_all.add(seen.features)
        self.batches.append(Features(seen.features.cpu(), None if seen.logits is None else seen.logits.cpu()))

    def statistics(self, extractor: FeatureExtractor) -> FrechetStatistics:
        """Give mean and covariance of the features."""
        return self.of_all

    def features(self, extractor: FeatureExtractor) -> Tensor:
        """Give all features, float32 [N, D]."""
        return torch.cat([seen.features for seen in self.batches])

    def logits(self, extractor: FeatureExtractor) -> Tensor:
        """Give all class scores, float32 [N, K]."""
        return torch.cat([seen.logits for seen in self.batches if seen.logits is not None])


class TrainingMetrics:
    """Measure what `train.evaluate_metrics` asks for, on samples that always have the same seeds.

    The classifier and the features of the training images are made ready here, once, so that measuring is drawing samples.
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
        self.accelerator, self._n = accelerator, config.train.evaluate_n
        missing = [name for name in config.train.evaluate_metrics if name not in in_training()]
        if missing:
            raise RequestError(
                f"train.evaluate_metrics names {readable(missing[0])}, which no installed package adds.",
                "Install the package that adds it.",
            )
        self._metrics = [in_training()[name] for name in config.train.evaluate_metrics]
        self._settings = config.sample.model_copy(update={"sampler": config.train.sampler})
        team, device = Team.of(accelerator), accelerator.device
        extractors = Extractors(dataset, device, fit=not has_bundled(dataset), team=team, on_event=on_event)
        self._extractor = extractors.of("classifier")
        self._reference = real_images(dataset, "train", self._settings.batch_size)
        if team.is_main:  # the others find it in the cache
            self._reference.statistics(self._extractor)
        team.wait()

    def draw(self, trained: TrainedModel, check: Callable[[], None] = lambda: None) -> Seen:
        """Draw this process's share of the samples and look at them.

        Args:
            trained: The averaged weights as they are now.
            check: Called after each denoising step; what it raises ends the drawing.
        """
        size, rank, processes = self._settings.batch_size, self.accelerator.process_index, self.accelerator.num_processes
        own = Seen(FrechetStatistics(self._extractor.dimensions), [])
        for first in range(rank * size, self._n, processes * size):
            for images in generate_samples(
                trained, range(first, min(first + size, self._n)), self._settings, on_event=lambda _: check()
            ):
                own.add(self._extractor(trained.scale.view(images)))
        return own

    def values(self, own: Seen) -> dict[str, float]:
        """Compute the value of each metric by name, the same on every process; all take part.

        Args:
            own: This process's share of the samples.
        """
        seen, values = self._merged(own), dict[str, float]()
        for metric in self._metrics:
            values |= metric.values_of(self._reference, seen, self._extractor)
        return values

    def _merged(self, own: Seen) -> Seen:
        """What all processes have seen, put together in the order of their ranks."""
        if self.accelerator.num_processes == 1:
            return own
        merged = Seen(FrechetStatistics(self._extractor.dimensions), [])
        for share in gather_object([own]):
            merged.of_all.merge(share.of_all)
            merged.batches.extend(share.batches)
        return merged


def check_training_metrics(config: Config, dataset: Dataset) -> None:
    """Refuse images that no classifier can be trained on, where the config asks for what needs one.

    Raises:
        RequestError: Naming the smallest size.
    """
    if config.train.evaluate_every and not has_bundled(dataset):
        require_size(*dataset.image_shape[1:])


def training_metrics(config: Config, dataset: Dataset, accelerator: Accelerator, on_event: Listener) -> TrainingMetrics | None:
    """Prepare what the config asks for, or None if it asks for nothing."""
    return TrainingMetrics(config, dataset, accelerator, on_event) if config.train.evaluate_every else None
