"""The nearest of many references, exactly and in parts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ddpm_cli.errors import RequestError, ShapeError

_TABLE_ENTRIES = 2**25
"""Squared distances that are held at a time: 128 MiB of float32."""
_PART_ENTRIES = 2**25
"""Numbers of the references that are held as float32 at a time."""
_CANDIDATES = 8


def nearest(queries: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest reference of each query by Euclidean distance.

    Products in float32 find eight candidates; their distances are taken anew from differences in float64, so that a copy has
    distance exactly 0 and rounding does not choose the winner.

    Args:
        queries: [N, D], of any type, such as uint8 pixels.
        references: [M, D]; they are read in parts, so that a memory-mapped file need not fit in memory.
    Returns:
        Distances, float64, [N], and numbers of the references, int64, [N], on the CPU.
    Raises:
        ShapeError: If the vectors differ in length.
        RequestError: If there is no reference.
    """
    distances, indices = nearest_few(queries, references, 1)
    return distances[:, 0], indices[:, 0]


def nearest_few(queries: Tensor, references: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """The k nearest references of each query, the nearest first; see `nearest`.

    Args:
        queries: [N, D].
        references: [M, D].
        neighbours: k; where there are fewer references, all of them.
    Returns:
        Distances, float64, [N, k], and numbers of the references, int64, [N, k], on the CPU.
    """
    if queries.ndim != 2 or queries.shape[1:] != references.shape[1:]:
        raise ShapeError(f"Vectors of shapes {tuple(queries.shape)} and {tuple(references.shape)} cannot be compared.")
    if len(references) == 0:
        raise RequestError("There is nothing to compare with.", "Use a training set with images.")
    step = max(1, _TABLE_ENTRIES // max(1, _part_length(references)))
    found = [_search(part, references, neighbours) for part in torch.tensor_split(queries, range(step, len(queries), step))]
    distances, indices = zip(*found, strict=True)
    return torch.cat(distances), torch.cat(indices)


def _search(queries: Tensor, references: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    indices = _candidates(queries, references, neighbours + _CANDIDATES - 1)
    distances = _distances(queries, references, indices)
    order = distances.argsort(dim=1, stable=True)[:, :neighbours]
    return distances.gather(1, order), indices.gather(1, order)


def _candidates(queries: Tensor, references: Tensor, count: int) -> Tensor:
    """Numbers of the references that are nearest up to rounding, int64, [N, count], the lowest number first."""
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
    return max(1, min(len(references), _PART_ENTRIES // max(1, references.shape[1])))


class Verdicts(NamedTuple):
    """Which samples are nearer to the training set than held-out images are.

    Attributes:
        p_values: Chance that a new image of the same kind is as near, float64, [N].
        flagged: Where that is at most `false_alarm_rate`, bool, [N].
        false_alarm_rate: The share of new images that would be flagged, at most.
    """

    p_values: Tensor
    flagged: Tensor
    false_alarm_rate: float


def memorised(sample_distances: Tensor, held_out_distances: Tensor, false_alarm_rate: float = 0.001) -> Verdicts:
    """Which samples are nearer to the training set than held-out images are, by a conformal test (Vovk et al. 2005).

    p = (1 + number of held-out images as near or nearer) / (1 + number of held-out images)

    A new image that is exchangeable with the held-out ones gets a p of at most r with a probability of at most r.

    Args:
        sample_distances: Of samples to the training set, [N].
        held_out_distances: Of held-out images to the same training set, by the same measure, [M].
        false_alarm_rate: Share of new images that may be flagged; 1 / (1 + M) is taken instead where it is larger: no p is smaller.
    Raises:
        RequestError: If there are no held-out images.
    """
    m = len(held_out_distances)
    if m == 0:
        raise RequestError("Without held-out images nothing says how near is too near.", "Use a data set with held-out images.")
    rate = max(false_alarm_rate, 1 / (1 + m))
    as_near = torch.searchsorted(held_out_distances.double().sort().values, sample_distances.double(), right=True)
    p_values = (1 + as_near).double() / (1 + m)
    return Verdicts(p_values, p_values <= rate, rate)
