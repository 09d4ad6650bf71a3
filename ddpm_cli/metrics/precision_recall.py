"""Measure precision and recall of generated images (Kynkäänniemi et al. 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddpm_cli.errors import RequestError, ShapeError
from ddpm_cli.metrics.nearest import nearest_few

if TYPE_CHECKING:
    from ddpm_cli.metrics.features import FeatureExtractor, FeatureSource

NEIGHBOURS = 3
TABLE_ENTRIES = 2**25
"""Squared distances that are held at a time: 128 MiB of float32, whatever the number of images."""
_SLACK = 1e-5
"""Of the squared lengths of two vectors: more than rounding moves their squared distance by in products of float32."""


def precision_recall(real: Tensor, generated: Tensor, *, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """Count which share of generated images is on the manifold of the real, and the reverse (Kynkäänniemi et al. 2019, Eq. 1, 2).

    A set's manifold is the union of balls around its members, each reaching to the member's k-th nearest neighbour in the set, its
    surface included: ties count, and so do copies of a member whose ball has radius 0.

    Args:
        real: Features of real images, float32, [N, D].
        generated: Features of generated images, float32, [M, D], on the same device.
        neighbours: k.
    Returns:
        Precision and recall, in [0, 1].
    Raises:
        RequestError: If a set has no k + 1 images.
        ShapeError: If the features differ in length.
    """
    if real.shape[1:] != generated.shape[1:]:
        raise ShapeError(f"Features of shapes {tuple(real.shape)} and {tuple(generated.shape)} cannot be compared.")
    if min(len(real), len(generated)) <= neighbours:
        raise RequestError(f"Precision and recall need at least {neighbours + 1} images of each kind.", "Use more images.")
    precision = _covered(generated, real, _radii(real, neighbours))
    recall = _covered(real, generated, _radii(generated, neighbours))
    return float(precision.double().mean()), float(recall.double().mean())


def _radii(features: Tensor, neighbours: int) -> Tensor:
    """Distance of each vector to its k-th nearest neighbour, float64, [N] on the CPU; the nearest of all is the vector itself."""
    return nearest_few(features, features, neighbours + 1)[0][:, neighbours]


def _covered(points: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    """Whether each point lies in a ball, its surface being part of it: bool, [N] on the CPU.

    Products of float32 decide wherever rounding cannot matter. What is left, such as copies of an image and balls of radius 0, is
    decided by differences in float64, in which equal distances are equal.
    """
    # Distances do not change with the origin, but float32 resolves finer differences near it.
    origin = centres.float().mean(dim=0)
    x, y = points.float() - origin, centres.float() - origin
    step = max(1, TABLE_ENTRIES // len(y))
    found = [
        _covered_part(x[start : start + step], y, radii, points[start : start + step], centres) for start in range(0, len(x), step)
    ]
    return torch.cat(found)


def _covered_part(x: Tensor, y: Tensor, radii: Tensor, points: Tensor, centres: Tensor) -> Tensor:
    lengths = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    excess = lengths - 2.0 * (x @ y.T) - radii.square().to(x.device, x.dtype)
    slack = _SLACK * lengths
    inside = (excess < -slack).any(dim=1)
    unsure = (excess.abs() <= slack) & ~inside[:, None]
    while bool(unsure.any()):  # one centre of each point at a time: most are inside the first
        rows = unsure.any(dim=1).nonzero()[:, 0]
        columns = unsure[rows].int().argmax(dim=1)
        distances = (points[rows].double().cpu() - centres[columns].double().cpu()).square().sum(dim=1).sqrt()
        within = (distances <= radii[columns.cpu()]).to(rows.device)
        inside[rows] = within
        unsure[rows, columns] = False
        unsure[rows[within]] = False
    return inside.cpu()


def shares(reference: FeatureSource, samples: FeatureSource, extractor: FeatureExtractor) -> dict[str, float]:
    """Measure precision and recall against as many real images as samples: the manifold of more images has smaller balls."""
    precision, recall = precision_recall(reference.features(extractor), samples.features(extractor))
    return {"precision": precision, "recall": recall}


def facts(reference: FeatureSource, samples: FeatureSource, extractor: FeatureExtractor) -> dict[str, str | int | float]:
    """Say which neighbour a ball reaches to."""
    return {"neighbours": NEIGHBOURS}
