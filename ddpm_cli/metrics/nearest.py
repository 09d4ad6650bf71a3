"""Find the nearest of many references, exactly and in parts."""

from __future__ import annotations

import torch
from torch import Tensor

from ddpm_cli.errors import RequestError, ShapeError

TABLE_ENTRIES = 2**25
"""Squared distances that are held at a time: 128 MiB of float32."""
PART_ENTRIES = 2**25
"""Numbers of the references that are held as float32 at a time."""
_CANDIDATES = 8


def nearest(queries: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Find the nearest reference of each query by Euclidean distance.

    Products in float32 find eight candidates; their distances are taken anew from differences in float64, so that a copy has
    distance exactly 0 and rounding does not choose the winner.

    Args:
        queries: [N, D], of any type, such as uint8 pixels.
        references: [M, D]; they are read in parts, so that a memory-mapped file need not fit in memory.
    Returns:
        Distances, float64, [N], and numbers of the references, int64, [N], on the CPU.
    Raises:
        ShapeError: If the vectors differ in length.
        RequestError: If there are no queries or no references.
    """
    distances, indices = nearest_few(queries, references, 1)
    return distances[:, 0], indices[:, 0]


def nearest_few(queries: Tensor, references: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """Find the k nearest references of each query, the nearest first; see `nearest`.

    Args:
        queries: [N, D].
        references: [M, D].
        neighbours: k; where there are fewer references, all of them.
    Returns:
        Distances, float64, [N, k], and numbers of the references, int64, [N, k], on the CPU.
    """
    if queries.ndim != 2 or queries.shape[1:] != references.shape[1:]:
        raise ShapeError(f"Vectors of shapes {tuple(queries.shape)} and {tuple(references.shape)} cannot be compared.")
    if len(queries) == 0 or len(references) == 0:
        raise RequestError("There are no images to compare.", "Use a data set with images.")
    step = max(1, TABLE_ENTRIES // max(1, _part_length(references)))
    found = [_search(queries[start : start + step], references, neighbours) for start in range(0, len(queries), step)]
    distances, indices = zip(*found, strict=True)
    return torch.cat(distances), torch.cat(indices)


def _search(queries: Tensor, references: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    indices = _candidates(queries, references, neighbours + _CANDIDATES - 1)
    distances = _distances(queries, references, indices)
    order = distances.argsort(dim=1, stable=True)[:, :neighbours]
    return distances.gather(1, order), indices.gather(1, order)


def _candidates(queries: Tensor, references: Tensor, count: int) -> Tensor:
    """Numbers of the references that are nearest up to rounding, int64, [N, count], in ascending order."""
    # Near the origin float32 resolves finer differences, and distances do not depend on it.
    origin = queries.float().mean(dim=0)
    x = queries.float() - origin
    scores, indices = torch.empty(len(x), 0), torch.empty(len(x), 0, dtype=torch.int64)
    for start in range(0, len(references), _part_length(references)):
        y = references[start : start + _part_length(references)].to(x.device, torch.float32) - origin
        part = torch.addmm(y.square().sum(dim=1), x, y.T, alpha=-2)  # squared distance less |x|^2, which ranks the same
        best = part.topk(min(count, len(y)), dim=1, largest=False)
        scores, indices = torch.cat([scores, best.values.cpu()], 1), torch.cat([indices, best.indices.cpu() + start], 1)
        kept = scores.topk(min(count, scores.shape[1]), dim=1, largest=False).indices
        scores, indices = scores.gather(1, kept), indices.gather(1, kept)
    return indices.sort(dim=1).values


def _distances(queries: Tensor, references: Tensor, indices: Tensor) -> Tensor:
    rows = []
    for query, chosen in zip(queries.cpu(), indices, strict=True):
        near = references[chosen.to(references.device)].to("cpu", torch.float64)
        rows.append((near - query.double()).square().sum(dim=1).sqrt())
    return torch.stack(rows)


def _part_length(references: Tensor) -> int:
    return max(1, min(len(references), PART_ENTRIES // max(1, references.shape[1])))
