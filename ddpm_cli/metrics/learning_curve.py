"""Fit a power law to the course of a figure over time, and tell with its error how much a stretch of time gains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXPONENTS = np.geomspace(0.1, 3.0, 60)
"""Tried for c: below them the curve is a logarithm in all but name, above them it is flat at its end."""
LEAST_POINTS = 6
"""A curve of three numbers through fewer leaves too little to tell its error from."""
REPEATS = 500
"""Of the bootstrap."""
SEED = 0


@dataclass(frozen=True)
class PowerLaw:
    """Hold fits of y = a + b t**-c to several courses of a figure (Hestness et al. 2017), R of them.

    Attributes:
        a: What each tends to, [R].
        b: How far above that each is at t = 1, [R]; below 0 for one that rises.
        c: How fast each falls, [R].
    """

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    c: NDArray[np.float64]

    def at(self, t: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute each curve at a time above 0, [R]; at several if `t` is [n, 1], [n, R]."""
        values: NDArray[np.float64] = self.a + self.b * t**-self.c
        return values

    def fall(self, start: float, end: float) -> NDArray[np.float64]:
        """Compute how far each curve falls from one time to another, [R]."""
        return self.at(start) - self.at(end)


def fit(times: NDArray[np.float64], values: NDArray[np.float64]) -> PowerLaw:
    """Fit power laws by least squares: a and b in closed form for each exponent of EXPONENTS, of which the best is taken.

    Args:
        times: Above 0, [n].
        values: Courses of a figure, [R, n].
    """
    powers = times ** -EXPONENTS[:, None]
    centred, wanted = powers - powers.mean(1, keepdims=True), values - values.mean(1, keepdims=True)
    squares = (centred**2).sum(1)
    slopes = wanted @ centred.T / squares
    best = (slopes**2 * squares).argmax(1)
    b = np.take_along_axis(slopes, best[:, None], 1)[:, 0]
    return PowerLaw(values.mean(1) - b * powers.mean(1)[best], b, EXPONENTS[best])


def fit_with_error(times: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[PowerLaw, PowerLaw]:
    """Fit one course of a figure, and courses like it, by whose spread the error of all that follows is told.

    It is a parametric bootstrap (Efron 1979): the curve, with normal noise of the spread of the residuals, is fitted again and
    again. The noise is always the same, so that an outlook is too.

    Args:
        times: At least LEAST_POINTS, above 0, [n].
        values: The figure, [n].
    Returns:
        The fit (R = 1), and those of REPEATS courses like it.
    """
    found = fit(times, values[None])
    course = found.at(times[:, None])[:, 0]
    spread = np.sqrt(((values - course) ** 2).sum() / (len(times) - 3))
    noise = np.random.default_rng(SEED).standard_normal((REPEATS, len(times)))
    return found, fit(times, course + spread * noise)
