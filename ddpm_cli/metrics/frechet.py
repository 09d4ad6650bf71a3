"""The Fréchet distance between two sets of features: FID with Inception's, FCD with a classifier's.

Heusel et al. 2017 compare the Gaussians that have the mean and covariance of each set; Dowson & Landau 1982 give the distance
of two Gaussians in closed form.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.linalg.lapack import dpstrf
from torch import Tensor

from ddpm_cli.errors import RequestError, ShapeError


class FrechetStatistics:
    """Mean and covariance of features that arrive in batches, so that none of them need be kept.

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
        """Unbiased covariance, float64, [D, D].

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
        """All of the state by name, for a file; `from_tensors` undoes it, bit for bit."""
        return {"count": torch.tensor(self.count), "mean": self.mean.clone(), "scatter": self._scatter.clone()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> FrechetStatistics:
        """The statistics that `tensors` described.

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

    def _absorb(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.count + count
        shift = mean - self.mean
        self._scatter += scatter + torch.outer(shift, shift) * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total


def frechet_distance(a: FrechetStatistics, b: FrechetStatistics) -> float:
    """Squared Fréchet distance of two Gaussians (Dowson & Landau 1982; Heusel et al. 2017, Eq. 6).

    |mean_a - mean_b|^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2))

    The trace of the root is the sum of the singular values of root_a^T root_b, where root root^T is a covariance. Such roots
    exist for singular covariances too, which fewer images than dimensions have, and no digits are lost to a square root of
    rounding errors.

    Args:
        a: Statistics of at least two images.
        b: The same of the other set, with as many dimensions.
    Returns:
        The distance, at least 0; rounding below 0 is cut off.
    Raises:
        RequestError: If a set has fewer than two images.
        ShapeError: If the dimensions differ, or a value is not finite.
    """
    if a.mean.shape != b.mean.shape:
        raise ShapeError(f"Features of {len(a.mean)} and {len(b.mean)} dimensions cannot be compared.")
    covariances = a.covariance, b.covariance
    if not all(tensor.isfinite().all() for tensor in (a.mean, b.mean, *covariances)):
        raise ShapeError("The features are not all finite, so that they have no Fréchet distance.", "Look at the images.")
    overlap = torch.linalg.svdvals(_root(covariances[0]).T @ _root(covariances[1])).sum()
    spread = covariances[0].trace() + covariances[1].trace()
    return max(0.0, float((a.mean - b.mean).square().sum() + spread - 2 * overlap))


def _root(covariance: Tensor) -> Tensor:
    """A matrix, [D, rank], whose product with its own transpose is the covariance, by Cholesky with pivots (Higham 1990)."""
    triangle, pivots, rank, _ = dpstrf(covariance.numpy(), lower=1)
    root = np.zeros((len(covariance), rank))
    root[pivots - 1] = np.tril(triangle)[:, :rank]
    return torch.from_numpy(root)
