"""Use real images as the reference of a metric, or as its floor; what was computed from them is kept in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_cli.core.io.downloads import cache_directory
from ddpm_cli.core.io.files import UnreadableError, atomic_write, make_folder
from ddpm_cli.core.io.tensor_files import read_summed, summed
from ddpm_cli.data.images import images_sha256
from ddpm_cli.data.scale import USUAL, Scale
from ddpm_cli.errors import ShapeError
from ddpm_cli.evaluation.check import no_held_out
from ddpm_cli.evaluation.feature_sources import in_batches, kept_rows, statistics_of
from ddpm_cli.evaluation.settings import Split
from ddpm_cli.metrics.feature_statistics import FrechetStatistics
from ddpm_cli.results.events import EvaluateProgress, Listener, Notice, ignore

if TYPE_CHECKING:
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.metrics.features import FeatureExtractor, Features

DRAW_SEED = 0
LARGEST_KEPT = 2**30
"""Bytes of features beyond which only their statistics are kept, unless a metric needs the features themselves."""


@dataclass(frozen=True, eq=False)
class RealImages:
    """Hold images of one split of a data set, all or some of them.

    Attributes:
        data: Name of the data set.
        split: train or test.
        pixels: The whole split as it is stored, [M, C, H, W], perhaps mapped from a file.
        rows: Which of them, int64 [N].
        split_sha256: Of the bytes of the whole split.
        batch_size: Images at a time.
        on_event: Told of progress.
        scale: Which stored values are black and white in the view in 8 bits that networks look at.
    """

    data: str
    split: Split
    pixels: NDArray[Any]
    rows: NDArray[np.int64]
    split_sha256: str
    batch_size: int
    on_event: Listener = ignore
    scale: Scale = USUAL

    @property
    def count(self) -> int:
        """Count the images."""
        return len(self.rows)

    @cached_property
    def sha256(self) -> str:
        """Sum the bytes of these images as they are stored."""
        if self.count == len(self.pixels):
            return self.split_sha256
        digest = hashlib.sha256()
        for batch in self._stored():
            digest.update(batch.tobytes())
        return digest.hexdigest()

    @cached_property
    def view(self) -> NDArray[np.uint8]:
        """Give the view in 8 bits of the whole split, uint8 [M, C, H, W]; of data of 8 bits the pixels themselves."""
        return self.scale.view_array(self.pixels)

    def some(self, n: int) -> RealImages:
        """Take at most n of these images, drawn at random once and for all.

        Not the first, which may be of one class; nor every tenth, which may be of one class too, or give each class its exact
        share: the floor of such images is not that of n samples.
        """
        if n >= self.count:
            return self
        chosen = np.random.default_rng(DRAW_SEED).choice(self.count, n, replace=False)
        return replace(self, rows=self.rows[np.sort(chosen)])

    def batches(self) -> Iterator[Tensor]:
        """Read the images' view in 8 bits, uint8 [B, C, H, W], one batch at a time."""
        for batch in self._stored():
            yield self.scale.view(torch.from_numpy(batch))

    def _stored(self) -> Iterator[NDArray[Any]]:
        for start in range(0, self.count, self.batch_size):
            yield np.ascontiguousarray(self.pixels[self.rows[start : start + self.batch_size]])

    def statistics(self, extractor: FeatureExtractor) -> FrechetStatistics:
        """Give mean and covariance of the features, from the cache if they are there."""
        path = self._path(extractor, "statistics.safetensors")
        if (known := read_statistics(path, extractor.dimensions, self.count, self.on_event)) is not None:
            return known
        kept = 4 * self.count * extractor.dimensions <= LARGEST_KEPT or self._path(extractor, "features.npy").exists()
        batches = in_batches(self.features(extractor)) if kept else (seen.features for seen in self._seen(extractor))
        statistics = statistics_of(batches, extractor.dimensions)
        make_folder(path.parent)
        atomic_write(path, summed(statistics.tensors()))
        return statistics

    def features(self, extractor: FeatureExtractor) -> Tensor:
        """Give all features, float32 [N, D], from the cache if they are there."""
        return self._rows(self._path(extractor, "features.npy"), (seen.features for seen in self._seen(extractor)))

    def logits(self, extractor: FeatureExtractor) -> Tensor:
        """Give all class scores, float32 [N, K], from the cache if they are there."""
        scores = (seen.logits for seen in self._seen(extractor) if seen.logits is not None)
        return self._rows(self._path(extractor, "logits.npy"), scores)

    def key(self, *more: str | int) -> str:
        """Make the short name of a file about these images."""
        whole = self.count == len(self.pixels)
        which = "all" if whole else f"drawn with {DRAW_SEED}"
        facts = json.dumps([self.split_sha256, self.split, which, self.count, *more, *self.scale.facts().values()])
        return f"{self.split}-{self.count}-{hashlib.sha256(facts.encode()).hexdigest()[:24]}"

    def _path(self, extractor: FeatureExtractor, what: str) -> Path:
        return references_folder() / f"{self.key(extractor.name, extractor.sha256)}-{what}"

    def _rows(self, path: Path, batches: Iterator[Tensor]) -> Tensor:
        make_folder(path.parent)
        return kept_rows(path, batches, self.count, self.on_event)

    def _seen(self, extractor: FeatureExtractor) -> Iterator[Features]:
        done = 0
        for batch in self.batches():
            yield extractor(batch)
            done += len(batch)
            self.on_event(EvaluateProgress(f"{self.split} images", done, self.count, "images"))


def real_images(dataset: Dataset, split: Split, batch_size: int, on_event: Listener = ignore) -> RealImages:
    """Take all images of a split.

    Raises:
        DataError: If it has none.
    """
    pixels = (dataset.train if split == "train" else dataset.test).images
    if len(pixels) == 0:
        raise no_held_out(dataset.name)
    sha256 = dataset.sha256 if split == "train" else images_sha256(pixels)
    return RealImages(dataset.name, split, pixels, np.arange(len(pixels)), sha256, batch_size, on_event, dataset.scale)


def references_folder() -> Path:
    """Tell where what was computed from real images is kept."""
    return cache_directory() / "references"


def read_statistics(path: Path, dimensions: int, count: int, on_event: Listener = ignore) -> FrechetStatistics | None:
    """Read the statistics of so many vectors; None if there are none, or damaged ones, which are told of."""
    if not path.exists():
        return None
    try:
        found = FrechetStatistics.from_tensors(read_summed(path))
        if len(found.mean) != dimensions or found.count != count:
            raise UnreadableError(f"is not of {count:,} vectors of {dimensions:,} numbers")
        return found
    except (UnreadableError, ShapeError, OSError) as error:
        on_event(Notice(f"{path} {str(error).rstrip('.')}. It is computed anew.", important=True))
        return None
