"""Measure the kernel distance between two sets of features, KID with Inception's (Binkowski et al. 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ddpm_cli.errors import RequestError, ShapeError

if TYPE_CHECKING:
    from ddpm_cli.metrics.features import FeatureExtractor, FeatureSource

SUBSETS = 100
SUBSET_SIZE = 1000
SEED = 2020
"""The seed and the draws are torch-fidelity's, so that both report the same figure."""


def usable_subset_size(real: int, generated: int, subset_size: int = SUBSET_SIZE) -> int:
    """Choose the largest subset that both sets can fill; below 1,000 it must be stated beside the figure.

    Where it is all of both sets, every subset is the same and the standard deviation says nothing.

    Args:
        real: Real images.
        generated: Generated images.
        subset_size: What is aimed at.
    """
    return min(real, generated, subset_size)


def kernel_distance(
    real: Tensor, generated: Tensor, *, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE, seed: int = SEED
) -> tuple[float, float]:
    """Compute the squared mean discrepancy with a cubic kernel, over random subsets (Binkowski et al. 2018, Sec. 4).

    It is unbiased, so that it may fall below 0 for sets that are alike, and its expectation does not depend on n.

    Args:
        real: Features of real images, [N, D].
        generated: Features of generated images, [M, D].
        subsets: Random subsets, each drawn without replacement.
        subset_size: Images of each; see `usable_subset_size`.
        seed: Of the draws.
    Returns:
        Mean and standard deviation over the subsets.
    Raises:
        RequestError: If a set has fewer images than a subset, or a subset fewer than two.
        ShapeError: If the features differ in length.
    """
    if real.shape[1:] != generated.shape[1:]:
        raise ShapeError(f"Features of shapes {tuple(real.shape)} and {tuple(generated.shape)} cannot be compared.")
    fewest = min(len(real), len(generated))
    if not 2 <= subset_size <= fewest:
        raise RequestError(
            f"Subsets of {subset_size:,} images cannot be drawn from {fewest:,}.", "Use more images, at least two in each set."
        )
    random = np.random.RandomState(seed)
    distances = np.empty(subsets)
    for i in range(subsets):
        some_generated = generated[random.choice(len(generated), subset_size, replace=False)]
        some_real = real[random.choice(len(real), subset_size, replace=False)]
        distances[i] = squared_mmd(some_generated, some_real)
    return float(distances.mean()), float(distances.std())


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """Estimate the squared maximum mean discrepancy of two sets of equal size without bias (Gretton et al. 2012, Eq. 3).

    mean of k(x_i, x_j) and of k(y_i, y_j) over i != j, less twice the mean of k(x_i, y_j), with k(a, b) = (a.b / D + 1)^3

    Args:
        x: Features, [N, D], N at least 2.
        y: Features, [N, D].
    """
    # In float64, because the difference is often a millionth of its terms.
    x, y = (features.to("cpu", torch.float64) for features in (x, y))
    n = len(x)
    within = sum(kernel.sum() - kernel.trace() for kernel in (_cubic(x, x), _cubic(y, y)))
    return float(within / (n * (n - 1)) - 2 * _cubic(x, y).mean())


def _cubic(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1).pow(3)


def kid(reference: FeatureSource, samples: FeatureSource, extractor: FeatureExtractor) -> dict[str, float]:
    """Measure the kernel distance of samples to real images; where both are few, of smaller subsets."""
    size = usable_subset_size(reference.count, samples.count)
    return {"kid": kernel_distance(reference.features(extractor), samples.features(extractor), subset_size=size)[0]}


def facts(reference: FeatureSource, samples: FeatureSource, extractor: FeatureExtractor) -> dict[str, str | int | float]:
    """Say how large the subsets are."""
    return {"subset_size": usable_subset_size(reference.count, samples.count)}
