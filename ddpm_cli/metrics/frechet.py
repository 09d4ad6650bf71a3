"""Measure the Fréchet distance between two sets of features: FID with Inception's, FCD with a classifier's.

Heusel et al. 2017 compare the Gaussians that have the mean and covariance of each set; Dowson & Landau 1982 give the distance
of two Gaussians in closed form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.linalg.lapack import dpstrf
from torch import Tensor

from ddpm_cli.errors import ShapeError
from ddpm_cli.metrics.feature_statistics import FrechetStatistics

if TYPE_CHECKING:
    from ddpm_cli.metrics.features import FeatureExtractor, FeatureSource


def frechet_distance(a: FrechetStatistics, b: FrechetStatistics) -> float:
    """Compute the squared Fréchet distance of two Gaussians (Dowson & Landau 1982; Heusel et al. 2017, Eq. 6).

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
    overlap = torch.linalg.svdvals(root_of(covariances[0]).T @ root_of(covariances[1])).sum()
    spread = covariances[0].trace() + covariances[1].trace()
    return max(0.0, float((a.mean - b.mean).square().sum() + spread - 2 * overlap))


def root_of(covariance: Tensor) -> Tensor:
    """Find a matrix, [D, rank], whose product with its own transpose is the covariance, by Cholesky with pivots (Higham 1990).

    Args:
        covariance: Symmetric and positive semidefinite, float64 [D, D]; of another matrix the product is something else.
    """
    triangle, pivots, rank, _ = dpstrf(covariance.numpy(), lower=1)
    root = np.zeros((len(covariance), rank))
    root[pivots - 1] = np.tril(triangle)[:, :rank]
    return torch.from_numpy(root)


def fid(reference: FeatureSource, samples: FeatureSource, extractor: FeatureExtractor) -> dict[str, float]:
    """Measure the Fréchet distance of samples to real images by Inception's features."""
    return {"fid": frechet_distance(reference.statistics(extractor), samples.statistics(extractor))}


def fcd(reference: FeatureSource, samples: FeatureSource, extractor: FeatureExtractor) -> dict[str, float]:
    """Measure the Fréchet distance of samples to real images by the features of a classifier."""
    return {"fcd": frechet_distance(reference.statistics(extractor), samples.statistics(extractor))}


def facts(reference: FeatureSource, samples: FeatureSource, extractor: FeatureExtractor) -> dict[str, str | int | float]:
    """Say how long the vectors are whose distance it is."""
    return {"dimensions": extractor.dimensions}
