"""Share what multistep solvers have in common: the integral of a polynomial through several estimates of x_0.

In lambda = log(alpha / sigma) the probability-flow ODE from t to s has the solution (Lu et al. 2022, DPM-Solver++, Eq. 8), with
h = lambda_s - lambda_t and v = (lambda - lambda_t) / h:

    x_s = sigma_s / sigma_t * x_t + alpha_s * (1 - exp(-h)) * mean of x0_hat(v)

The mean over v in [0, 1] has the weight exp(-h * (1 - v)). Solvers differ in how they guess x0_hat(v).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ddpm_cli.diffusion.levels import Level


class Estimate(NamedTuple):
    """Hold an estimate of x_0, or of the noise, [B, C, H, W], and the lambda that it was made at."""

    half_logsnr: float
    value: Tensor


class History:
    """Keep the last estimates of one trajectory, `most` at most."""

    def __init__(self, most: int = 2) -> None:
        self._most = most
        self._estimates: list[Estimate] = []
        self._next: Level | None = None

    def enter(self, t: Level, s: Level) -> None:
        """Begin the step from t to s.

        Raises:
            ValueError: If the step before did not lead to t.
        """
        if self._next is not None and self._next != t:
            raise ValueError("A multistep sampler goes along one trajectory; make another one for the next.")
        self._next = s

    def last(self, count: int) -> list[Estimate]:
        """List the last estimates, as many as there are up to `count`."""
        return self._estimates[-count:] if count > 0 else []

    def keep(self, t: Level, estimate: Estimate) -> None:
        """Keep an estimate for the steps after; one where no signal is left has no finite lambda."""
        if t.signal > 0.0:
            self._estimates = [*self._estimates, estimate][-self._most :] if self._most else []


def moments(h: float, count: int) -> tuple[float, ...]:
    """Average v**k for k = 1 ... count under the weight exp(-h * (1 - v)) on [0, 1].

    moments[0] = 1    moments[k] = 1 / (1 - exp(-h)) - k / h * moments[k - 1]

    Args:
        h: Not 0. The step in lambda, times the rate of the weight.
        count: How many, at least 0.
    """
    total = -math.expm1(-h)
    if abs(h) < 1.0:
        # The recursion would subtract nearly equal numbers; the exponential's series does not.
        return tuple(h / total * _series(k, h) for k in range(1, count + 1))
    found = [1.0]
    for k in range(1, count + 1):
        found.append(1.0 / total - k / h * found[-1])
    return tuple(found[1:])


def _series(k: int, h: float) -> float:
    """Integral of v**k * exp(-h * (1 - v)) over [0, 1]; 20 terms are exact in float64 for |h| < 1."""
    return math.fsum(math.factorial(k) * (-h) ** j / math.factorial(k + j + 1) for j in range(20))


def mean_estimate(start: Estimate, others: Sequence[Estimate], end: float, *, rate: float = 1.0, halfway: float = 0.5) -> Tensor:
    """Average over a step the polynomial through several estimates, of x_0 or of the noise.

    sum over j of rho[j] * v[j]**(k - 1) = moments[k] for k = 1 ... len(others)
    mean = x0_hat + sum over j of rho[j] / v[j] * (x0_hat[j] - x0_hat)

    With one other, moments[1] is `halfway`, 1/2 being its value at h = 0: so the second-order solvers are published (DPM-Solver++,
    Alg. 2).

    Args:
        start: The estimate where the step starts, v = 0, at a finite lambda unless there are no others.
        others: Estimates at other v; none makes the mean that of a constant.
        end: Lambda where the step ends; finite unless there are no others.
        rate: The weight is exp(-rate * h * (1 - v)): 1 for the ODE, 2 for the SDE; -1 where the noise is averaged.
        halfway: Stands for moments[1] where there is one other.
    """
    if not others:
        return start.value
    h = end - start.half_logsnr
    v = np.array([(other.half_logsnr - start.half_logsnr) / h for other in others])
    means = (halfway,) if len(others) == 1 else moments(rate * h, len(others))
    rho = np.linalg.solve(v ** np.arange(len(v))[:, None], np.array(means))
    weights = (rho / v).tolist()
    mean: Tensor = (1.0 - sum(weights)) * start.value
    for weight, other in zip(weights, others, strict=True):
        mean = mean + weight * other.value
    return mean
