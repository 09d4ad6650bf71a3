"""Features of many images: streamed into statistics, or as rows of a file that is mapped into memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ddpm_cli.array_files import read_array
from ddpm_cli.errors import CheckpointError
from ddpm_cli.files import UnreadableError, replacing
from ddpm_cli.metrics.features import FeatureExtractor
from ddpm_cli.metrics.frechet import FrechetStatistics


class FeatureSource(Protocol):
    """Images whose features a metric asks for, whether they were drawn or are real."""

    @property
    def count(self) -> int:
        """Images."""

    def statistics(self, extractor: FeatureExtractor) -> FrechetStatistics:
        """Mean and covariance of the features."""

    def features(self, extractor: FeatureExtractor) -> Tensor:
        """All features, float32 [N, D], mapped from a file."""

    def logits(self, extractor: FeatureExtractor) -> Tensor:
        """All class scores, float32 [N, K], mapped from a file."""


def statistics_of(features: Iterable[Tensor], dimensions: int) -> FrechetStatistics:
    """Statistics of features that come in batches, [B, D] each."""
    statistics = FrechetStatistics(dimensions)
    for batch in features:
        statistics.add(batch)
    return statistics


def write_rows(path: Path, batches: Iterator[Tensor], count: int) -> None:
    """Write batches of rows, [B, D] each, to a .npy file, whole or not at all and one batch in memory at a time.

    Args:
        path: The file; its folder must exist.
        batches: At least one; float32 after a cast.
        count: Rows of all batches together.
    Raises:
        OutputError: If it cannot be written.
    """
    first = next(batches)
    with replacing(path) as temporary, open(temporary, "xb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, first.shape[1])}
        np.lib.format.write_array_header_1_0(file, header)
        # Not into a memory map: with the disk full that ends the process instead of raising an error.
        for batch in chain([first], batches):
            file.write(batch.to("cpu", torch.float32).contiguous().numpy().astype("<f4", copy=False).tobytes())


def mapped_rows(path: Path, count: int) -> Tensor:
    """The rows that `write_rows` wrote, float32 [count, D]; the system brings in what is looked at and drops it again.

    Raises:
        CheckpointError: If the file is no such file.
    """
    try:
        rows = read_array(path, mapped="c")
        if rows.ndim != 2 or len(rows) != count or rows.dtype != np.float32:
            raise UnreadableError(f"holds {rows.dtype} {rows.shape}, not {count:,} rows of float32")
        return torch.from_numpy(rows)
    except (UnreadableError, OSError) as error:
        raise CheckpointError(f"{path} {error}.", "Remove it and evaluate again.") from error


def in_batches(rows: Tensor, size: int = 4096) -> Iterator[Tensor]:
    """Rows a few at a time."""
    return (rows[start : start + size] for start in range(0, len(rows), size))
