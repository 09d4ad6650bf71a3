"""Gather mean and covariance of features that arrive in batches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ddpm_cli.errors import RequestError, ShapeError


class FrechetStatistics:
    """Gather mean and covariance of features that arrive in batches, so that none of them need be kept.

    Each batch is merged by its own mean and scatter (Chan et al. 1979), all in float64 on the CPU: sums of squares, from which
    the mean would have to be subtracted at the end, would cancel.

    Args:
        dimensions: Length D of a feature vector.
    """

    def __init__(self, dimensions: int) -> None:
        self.count = 0
        self.mean = torch.zeros(dimensions, dtype=torch.float64)
        self._scatter = torch.zeros(dimensions, dimensions, dtype=torch.float64)

    @property
    def covariance(self) -> Tensor:
        """Compute the unbiased covariance, float64, [D, D].

        Raises:
            RequestError: If fewer than two vectors were added.
        """
        if self.count < 2:
            raise RequestError("A covariance needs at least two images.", "Use more images.")
        return self._scatter / (self.count - 1)

    def add(self, features: Tensor) -> None:
        """Add a batch of vectors, [N, D], of any float type and device.

        Raises:
            ShapeError: If they are not of length D.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ShapeError(f"Features of shape {tuple(features.shape)} do not fit statistics of {len(self.mean)} dimensions.")
        if len(features) == 0:
            return
        batch = features.detach().to("cpu", torch.float64)
        mean = batch.mean(dim=0)
        centred = batch - mean
        self._absorb(len(batch), mean, centred.T @ centred)

    def merge(self, other: FrechetStatistics) -> None:
        """Add all that another one has seen, for instance in another process.

        Raises:
            ShapeError: If the other's vectors have another length.
        """
        if other.mean.shape != self.mean.shape:
            raise ShapeError(f"Statistics of {len(other.mean)} and {len(self.mean)} dimensions do not fit together.")
        if other.count:
            self._absorb(other.count, other.mean, other._scatter)

    def tensors(self) -> dict[str, Tensor]:
        """List all of the state by name, for a file; `from_tensors` undoes it, bit for bit."""
        return {"count": torch.tensor(self.count), "mean": self.mean.clone(), "scatter": self._scatter.clone()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> FrechetStatistics:
        """Read the statistics that `tensors` described.

        Raises:
            ShapeError: If a tensor is missing or of the wrong shape or type.
        """
        if set(tensors) != {"count", "mean", "scatter"}:
            raise ShapeError(f"Statistics consist of count, mean and scatter, not of {', '.join(sorted(tensors)) or 'nothing'}.")
        count, mean, scatter = (tensors[name] for name in ("count", "mean", "scatter"))
        whole = count.shape == () and mean.ndim == 1 and scatter.shape == (len(mean), len(mean))
        if not whole or (count.dtype, mean.dtype, scatter.dtype) != (torch.int64, torch.float64, torch.float64):
            raise ShapeError("The tensors are no statistics: int64 [], float64 [D] and float64 [D, D] are expected.")
        statistics = cls(len(mean))
        statistics.count, statistics.mean, statistics._scatter = int(count), mean.clone(), scatter.clone()
        return statistics

    @classmethod
    def of_gaussian(cls, mean: Tensor, covariance: Tensor) -> FrechetStatistics:
        """Make statistics of a mean, float64 [D], and a covariance, float64 [D, D], where nothing else is known.

        They count as two vectors, so that `covariance` comes out bit for bit.
        """
        statistics = cls(len(mean))
        statistics.count, statistics.mean, statistics._scatter = 2, mean.clone(), covariance.clone()
        return statistics

    def _absorb(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.count + count
        shift = mean - self.mean
        self._scatter += scatter + torch.outer(shift, shift) * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total
