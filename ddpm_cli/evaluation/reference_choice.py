"""Choose what the samples of each metric are measured against: a split of the data, or what was given in its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ddpm_cli.evaluation.given.statistics_file import write_statistics_file
from ddpm_cli.evaluation.references import RealImages, real_images
from ddpm_cli.metrics.registry import known_metrics
from ddpm_cli.results.events import Listener, ignore

if TYPE_CHECKING:
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.evaluation.given.reference import GivenReference, StatisticsReference
    from ddpm_cli.evaluation.settings import EvaluateSettings, Split
    from ddpm_cli.metrics.features import FeatureExtractor
    from ddpm_cli.metrics.registry import Metric

    Reference: TypeAlias = RealImages | StatisticsReference


@dataclass(frozen=True)
class ReferenceChoice:
    """Choose references.

    Attributes:
        dataset: The data; None where there are none.
        given: What was given in the place of a split; None for a split.
        settings: The split, and images at a time.
        on_event: Told of progress.
    """

    dataset: Dataset | None
    given: GivenReference | None
    settings: EvaluateSettings
    on_event: Listener = ignore

    def of(self, metric: Metric, channels: int) -> tuple[Reference | None, RealImages | None]:
        """Choose what samples are measured against, and the real images whose figure is the floor.

        Args:
            metric: The metric.
            channels: Of the samples.
        Returns:
            None for either that there is not: a metric may need no reference, and of what was given nothing is held out.
        """
        if self.given and metric.reference == "none":
            return None, None
        if self.given and metric.reference != "training":
            return self.given.of(metric, channels, self.settings.batch_size, self.on_event), None
        split: Split = "test" if self.settings.reference == "test" and metric.reference != "training" else "train"
        return self._real(split), self._real("test" if split == "train" else "train")

    def key(self, metric: Metric) -> object:
        """Say what a figure depends on: a split's name, or name, sum and number of what was given."""
        return self.given.key(metric) if self.given else self.settings.reference

    def save_statistics(self, path: Path, channels: int, extractor: FeatureExtractor) -> None:
        """Write mean and covariance of what fid is measured against, for other programs and for `--reference`.

        Args:
            path: The file.
            channels: Of the samples.
            extractor: Inception.
        Raises:
            SaveFailedError: If they cannot be written.
        """
        reference, _ = self.of(known_metrics()["fid"], channels)
        assert reference is not None  # fid has one
        write_statistics_file(path, reference.statistics(extractor), reference.count or None)

    def _real(self, split: Split) -> RealImages | None:
        if self.dataset is None or len(self.dataset.train if split == "train" else self.dataset.test) == 0:
            return None
        return real_images(self.dataset, split, self.settings.batch_size, self.on_event)
