"""Test whether evaluations of a run get better: over images if they are at hand, else by the order of the values."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from ddpm_cli.results.outlook import Trend

if TYPE_CHECKING:
    from numpy.typing import NDArray


def paired_trend(losses: NDArray[np.float64]) -> Trend:
    """Test by Student's t whether the losses of the same images, with the same noise, fall from evaluation to evaluation.

    Each image has a slope of its own, b_i = sum_k (k - mean(k)) l_ki / sum_k (k - mean(k))**2: how hard an image is cancels, so
    that a gain shows which is far below the spread of the losses.

    Args:
        losses: Of K >= 2 evaluations of N >= 2 images, [K, N].
    Returns:
        The mean gain over the evaluations, and the one-sided p of a mean slope that is not below 0.
    """
    steps = np.arange(len(losses)) - (len(losses) - 1) / 2
    gains = -(steps @ losses) / (steps @ steps) * (len(losses) - 1)
    mean, error = float(gains.mean()), float(gains.std(ddof=1)) / math.sqrt(len(gains))
    if error == 0:
        return Trend(mean, 0.0 if mean > 0 else 1.0)
    from scipy.stats import t

    return Trend(mean, float(t.sf(mean / error, len(gains) - 1)))


def rank_trend(values: NDArray[np.float64], *, higher: bool) -> Trend:
    """Test by the order of a figure's values whether they get better (Mann 1945), whatever the spread of their noise.

    Of the pairs of an earlier and a later value, those are counted of which the later is better. Their number has a known
    distribution where all orders are equally likely, as they are of a figure that stays the same.

    Args:
        values: K >= 2 of them, in order, [K].
        higher: Whether higher ones are better.
    Returns:
        The gain over the evaluations by the median slope of all pairs (Sen 1968), and the one-sided p.
    """
    better = values if higher else -values
    first, second = np.triu_indices(len(better), 1)
    steps = better[second] - better[first]
    slope = float(np.median(steps / (second - first)))
    return Trend(slope * (len(better) - 1), _tail(len(better))[int((steps > 0).sum())])


@cache
def _tail(count: int) -> tuple[float, ...]:
    """The chance of at least 0, 1, ... better pairs of `count` values in random order: the k-th adds 0 to k - 1 of them."""
    chances = np.ones(1)
    for length in range(2, count + 1):
        chances = np.convolve(chances, np.full(length, 1 / length))
    return tuple(np.minimum(1, np.cumsum(chances[::-1])[::-1]).tolist())
