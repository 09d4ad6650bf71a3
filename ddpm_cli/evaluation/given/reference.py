"""Take images or statistics that were given as the reference of a metric, in the place of a split of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

import numpy as np
from torch import Tensor

from ddpm_cli.errors import RequestError
from ddpm_cli.evaluation.given.images import GivenImages, has_images, read_images
from ddpm_cli.evaluation.given.statistics_file import GivenStatistics, holds_statistics, read_statistics_file
from ddpm_cli.evaluation.references import RealImages
from ddpm_cli.metrics.inception import NAME as INCEPTION
from ddpm_cli.metrics.registry import known_metrics
from ddpm_cli.results.events import Listener, Notice, ignore

if TYPE_CHECKING:
    from ddpm_cli.data.scale import Scale
    from ddpm_cli.metrics.feature_statistics import FrechetStatistics
    from ddpm_cli.metrics.features import FeatureExtractor
    from ddpm_cli.metrics.registry import Metric

ALL, STATISTICS = "all", "statistics"
"""What a figure calls the part of a given reference that it was measured against."""


@dataclass(frozen=True, eq=False)
class StatisticsReference:
    """Stand for images of whose Inception features mean and covariance are all that is known; a `RealFeatureSource`.

    Attributes:
        known: Mean and covariance.
    """

    known: GivenStatistics
    split = STATISTICS

    @property
    def data(self) -> str:
        """Name the file."""
        return self.known.name

    @property
    def sha256(self) -> str:
        """Sum mean and covariance."""
        return self.known.sha256

    @property
    def count(self) -> int:
        """Count the images; 0 if nobody knows."""
        return self.known.count or 0

    def some(self, n: int) -> Self:
        """Take all of them: there are no fewer to be had."""
        return self

    def statistics(self, extractor: FeatureExtractor) -> FrechetStatistics:
        """Give mean and covariance, which are of the Inception network."""
        return self.known.gaussian

    def features(self, extractor: FeatureExtractor) -> Tensor:
        """Refuse to give any: `GivenReference.check` lets no metric come here that asks for them."""
        self._refuse()

    def logits(self, extractor: FeatureExtractor) -> Tensor:
        """Refuse likewise."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise RequestError(f"{self.known.path} holds no images.", "Give the images themselves.")


@dataclass(frozen=True, eq=False)
class GivenReference:
    """Hold what was given as a reference: images, statistics, or both, as OpenAI's reference batches have them.

    Attributes:
        path: The file or folder.
        images: The images, if they are there.
        statistics: Their statistics, which metrics that need no more take; none if they are not there.
    """

    path: Path
    images: GivenImages | None
    statistics: GivenStatistics | None

    def check(self, metrics: Sequence[str], samples: tuple[int, int, int], on_event: Listener = ignore) -> None:
        """Refuse metrics that cannot be had against it, and say how it differs from the samples.

        Args:
            metrics: Names.
            samples: Channels, height and width of the samples.
            on_event: Told of differences that matter to no metric.
        Raises:
            RequestError: Naming the metric and what it lacks.
            DataError: If the reference has colours that the samples have not.
        """
        asked = [known_metrics()[name] for name in metrics]
        users = [metric for metric in asked if metric.is_of_samples and metric.reference in ("split", "as-many")]
        if not users:
            raise RequestError(f"A reference has no effect on {', '.join(metrics)}.", "Leave --reference out.")
        for metric in users:
            if not self._takes_statistics(metric):
                self._require_images(metric, samples)
        if any(map(self._takes_statistics, users)) and self.statistics:
            on_event(Notice(_about_statistics(self.statistics), important=True))
        if self.images and any(metric.extractor == "inception" and not self._takes_statistics(metric) for metric in users):
            for notice in differences(self.images.shape, samples, f"the images of {self.path}", "the samples"):
                on_event(Notice(notice, important=True))

    def of(self, metric: Metric, channels: int, batch_size: int, on_event: Listener = ignore) -> RealImages | StatisticsReference:
        """Choose what a metric is measured against.

        Args:
            metric: One that `check` has let through.
            channels: Of the samples; images get as many, unless Inception looks at them, which sees grey as colour.
            batch_size: Images at a time.
            on_event: Told of progress.
        """
        if self._takes_statistics(metric) and self.statistics:
            return StatisticsReference(self.statistics)
        assert self.images is not None  # check has seen to it
        images = self.images if metric.extractor == "inception" else self.images.with_channels(channels)
        pixels: np.ndarray = images  # type: ignore[assignment]  # it is asked for rows, as an array is
        return RealImages(images.name, ALL, pixels, np.arange(len(images)), self.images.sha256, batch_size, on_event)

    def key(self, metric: Metric) -> list[str | int | None]:
        """List what a figure of a metric depends on: name, sum and number of the images or statistics."""
        given = self.statistics if self._takes_statistics(metric) else self.images
        shape = [*self.images.shape] if self.images and given is self.images else []
        return [given.name, given.sha256, given.count, *shape] if given and metric.reference != "none" else []

    def _takes_statistics(self, metric: Metric) -> bool:
        return self.statistics is not None and metric.extractor == "inception" and metric.of_gaussians

    def _require_images(self, metric: Metric, samples: tuple[int, int, int]) -> None:
        if self.images is None:
            why = "looks through another network" if metric.of_gaussians else "needs the images themselves"
            raise RequestError(
                f"{self.path} holds mean and covariance of Inception's features alone, and {metric.name} {why}.",
                "Ask for fid, or give the images: an .npz with arr_0, or a folder.",
            )
        if metric.extractor == "inception":
            return
        require_size(self.images, samples, f"{metric.name} compares pixel for pixel")
        self.images.with_channels(samples[0])


def read_reference(path: Path, on_event: Listener = ignore, scale: Scale | None = None) -> GivenReference:
    """Read what was given as a reference.

    Args:
        path: A folder of pictures, an .npy or .npz file of images, or an .npz file with `mu` and `sigma`.
        on_event: Told of progress.
        scale: See `read_images`.
    Raises:
        RequestError: If it is none of these.
        DataError: If its images cannot be used.
    """
    if path.is_dir() or not holds_statistics(path):
        return GivenReference(path, read_images(path, on_event, scale), None)
    return GivenReference(path, read_images(path, on_event, scale) if has_images(path) else None, read_statistics_file(path))


def require_size(images: GivenImages, wanted: tuple[int, int, int], why: str) -> None:
    """Refuse images of another height or width.

    Raises:
        RequestError: With both sizes.
    """
    if images.shape[1:] != wanted[1:]:
        own, other = (f"{height}x{width}" for _, height, width in (images.shape, wanted))
        raise RequestError(
            f"The images of {images.path} are {own}, and those that they are compared with {other}: {why}.",
            f"Bring them to {other}, or ask for metrics of Inception (fid, kid), which resizes all images itself.",
        )


def differences(one: tuple[int, int, int], other: tuple[int, int, int], named: str, other_named: str) -> list[str]:
    """Say what Inception makes equal of two sets of images that differ in size or colour."""
    notices = []
    if one[1:] != other[1:]:
        sizes = [f"{height}x{width}" for _, height, width in (one, other)]
        notices.append(
            f"{named[0].upper()}{named[1:]} are {sizes[0]} and {other_named} {sizes[1]}: each are resized to 299x299 for "
            "Inception, and a figure across sizes tells of the resizing too."
        )
    if one[0] != other[0]:
        grey, colour = (named, other_named) if one[0] == 1 else (other_named, named)
        notices.append(f"{grey[0].upper()}{grey[1:]} are grey and {colour} coloured: grey is repeated in three channels.")
    return notices


def _about_statistics(statistics: GivenStatistics) -> str:
    number = "an unknown number of" if statistics.count is None else f"{statistics.count:,}"
    return (
        f"{statistics.path} holds mean and covariance of features of {number} images. They compare only if they were made as ours "
        f"are: by {INCEPTION}, of images that were resized to 299x299 as TensorFlow 1 did, without antialiasing."
    )
