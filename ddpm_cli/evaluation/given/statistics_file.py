"""Read and write mean and covariance of Inception's features as pytorch-fid does: `mu` [2048] and `sigma` [2048, 2048]."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_cli.core.io.array_archives import read_keys, read_member, write_arrays
from ddpm_cli.core.io.files import UnreadableError, input_errors
from ddpm_cli.errors import RequestError
from ddpm_cli.metrics.feature_statistics import FrechetStatistics
from ddpm_cli.metrics.frechet import root_of

MEAN, COVARIANCE, COUNT = "mu", "sigma", "n"
"""Keys; the last is ours alone, and others pass it over."""
DIMENSIONS = 2048
SYMMETRIC, POSITIVE = 1e-6, 1e-4
"""How far, in parts of its largest variance, a covariance may be from its transpose and from any positive semidefinite matrix.

Those that pytorch-fid saves in float64 keep either to 1e-12; files in float32 do not.
"""
_WANTED = "Make one with --write-statistics, or with pytorch-fid's --save-stats."


@dataclass(frozen=True, eq=False)
class GivenStatistics:
    """Hold mean and covariance of the Inception features of images that are not here.

    Attributes:
        name: Of the file.
        path: The file.
        mean: float64 [2048].
        covariance: float64 [2048, 2048].
        count: Images that they are of; None if the file does not say.
    """

    name: str
    path: Path
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    count: int | None

    @cached_property
    def sha256(self) -> str:
        """Sum the bytes of mean and covariance, float64."""
        digest = hashlib.sha256(np.ascontiguousarray(self.mean).data)
        digest.update(np.ascontiguousarray(self.covariance).data)
        return digest.hexdigest()

    @property
    def gaussian(self) -> FrechetStatistics:
        """Give them as statistics that can be compared."""
        return FrechetStatistics.of_gaussian(torch.from_numpy(self.mean), torch.from_numpy(self.covariance))


def holds_statistics(path: Path) -> bool:
    """Tell whether a file is an archive with a mean or a covariance in it.

    Raises:
        RequestError: If it is called .npz and is no archive.
    """
    if path.suffix.lower() != ".npz":
        return False
    with input_errors(path, RequestError, _WANTED):
        return not {MEAN, COVARIANCE}.isdisjoint(read_keys(path))


def read_statistics_file(path: Path) -> GivenStatistics:
    """Read mean and covariance.

    Raises:
        RequestError: If they are missing, not of 2,048 finite numbers, or no mean and covariance.
    """
    with input_errors(path, RequestError, _WANTED):
        mean, covariance = _numbers(path, MEAN, (DIMENSIONS,)), _numbers(path, COVARIANCE, (DIMENSIONS, DIMENSIONS))
        _require_covariance(covariance)
        count = _count(path) if COUNT in read_keys(path) else None
    return GivenStatistics(path.name, path, mean, covariance, count)


def write_statistics_file(path: Path, statistics: FrechetStatistics, count: int | None) -> None:
    """Write mean and covariance for pytorch-fid and others, and for `--reference`.

    Args:
        path: The file.
        statistics: Of Inception's features.
        count: Images that they are of, if that is known.
    Raises:
        SaveFailedError: If it cannot be written.
    """
    arrays: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {
        MEAN: statistics.mean.numpy(),
        COVARIANCE: statistics.covariance.numpy(),
    }
    write_arrays(path, arrays if count is None else arrays | {COUNT: np.array(count, np.int64)})


def _numbers(path: Path, key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    found = read_member(path, key)
    if found.shape != shape:
        wanted = " x ".join(map(str, shape))
        raise UnreadableError(f"holds {key} of shape {list(found.shape)}, where features of FID's Inception have {wanted}")
    if found.dtype.kind != "f":
        raise UnreadableError(f"holds {key} as {found.dtype}, not as floats")
    if not np.isfinite(found).all():
        raise UnreadableError(f"holds {key} that are not all finite")
    return np.array(found, np.float64)


def _require_covariance(covariance: NDArray[np.float64]) -> None:
    largest = float(np.abs(covariance.diagonal()).max())
    if np.abs(covariance - covariance.T).max() > SYMMETRIC * largest:
        raise UnreadableError(f"holds {COVARIANCE} that is not symmetric, so that it is no covariance")
    root = root_of(torch.from_numpy(covariance)).numpy()
    if np.abs(root @ root.T - covariance).max() > POSITIVE * largest:
        raise UnreadableError(f"holds {COVARIANCE} with negative variances, so that it is no covariance")


def _count(path: Path) -> int:
    found = read_member(path, COUNT)
    if found.shape != () or found.dtype.kind not in "iu" or found < 2:
        raise UnreadableError(f"holds {COUNT} that is no number of images")
    return int(found)
