"""Precision and recall of generated images (Kynkäänniemi et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ddpm_cli.errors import RequestError, ShapeError

NEIGHBOURS = 3
_TABLE_ENTRIES = 2**25
"""Distances that are held at a time: 128 MiB of float32, whatever the number of images."""


def precision_recall(real: Tensor, generated: Tensor, *, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """Share of generated images on the manifold of the real ones, and the reverse (Kynkäänniemi et al. 2019, Eq. 1 and 2).

    A set's manifold is the union of balls around its members, each reaching to the member's k-th nearest neighbour in the set.

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
    # Distances do not change with the origin, but float32 is exact to more digits near it.
    origin = real.mean(dim=0)
    real, generated = real - origin, generated - origin
    real_radii, generated_radii = _radii(real, neighbours), _radii(generated, neighbours)
    precise, recalled = [], torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for start, distances in _distances(generated, real):
        precise.append((distances <= real_radii).any(dim=1))
        recalled |= (distances <= generated_radii[start : start + len(distances), None]).any(dim=0)
    return float(torch.cat(precise).double().mean()), float(recalled.double().mean())


def _radii(features: Tensor, neighbours: int) -> Tensor:
    """Distance of each vector to its k-th nearest neighbour; the nearest of all is the vector itself. [N]."""
    return torch.cat([distances.kthvalue(neighbours + 1).values for _, distances in _distances(features, features)])


def _distances(rows: Tensor, columns: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Tables of distances between some rows and all columns, each with the number of its first row."""
    step = max(1, _TABLE_ENTRIES // len(columns))
    for start in range(0, len(rows), step):
        yield start, torch.cdist(rows[start : start + step], columns)
