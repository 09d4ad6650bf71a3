"""Test whether a change helped, by the figures of repeated runs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

LEVEL = 0.05
"""A p-value below it is called a difference; at most this share of comparisons of equal arms is then called one by chance."""


def welch(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Compute the two-sided p-value of equal means, the variances not assumed to be equal (Welch 1947).

    t = (mean_1 - mean_2) / sqrt(var_1/n_1 + var_2/n_2), with the degrees of freedom of Welch and Satterthwaite.

    Args:
        first: Independent figures, at least two.
        second: Independent figures, at least two.
    Returns:
        p in [0, 1]; None where neither sample varies and their means differ, as nothing is known of the noise then.
    Raises:
        ValueError: If a sample has fewer than two figures, or one that is not finite.
    """
    if min(len(first), len(second)) < 2 or not all(map(math.isfinite, [*first, *second])):
        raise ValueError("Welch's test needs two finite figures on each side")
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        return 1.0 if first[0] == second[0] else None
    from scipy.stats import ttest_ind

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of figures that are nearly equal, for which p is still right enough
        return float(ttest_ind(first, second, equal_var=False).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for being several (Holm 1979).

    If those below a level are called different, the probability of any false call is at most that level. Of m sorted values
    the i-th (from 0) becomes max over j <= i of min(1, (m - j) p_j).

    Args:
        p_values: In [0, 1], in any order.
    Returns:
        The adjusted ones, in the same order.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
