"""Compute with power-function averages: the exponent of a width, and any average out of stored ones. NumPy only.

Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2), Sec. 3 and App. C. The average at
time t holds the weights of time tau with the density p(tau) = (gamma + 1) * tau**gamma / t**(gamma + 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Profile:
    """Hold which average it is.

    Attributes:
        updates: t, the optimizer steps that it has seen, above 0.
        width: Its relative standard deviation, in (0, 0.28].
    """

    updates: int
    width: float


def gamma_of_width(width: float) -> float:
    """Find the exponent of an average whose profile has this relative standard deviation (EDM2, Algorithm 2).

    width**2 = (gamma + 1) / ((gamma + 2)**2 * (gamma + 3)), which is a cubic equation with one root that is not negative

    Args:
        width: In (0, 12**-0.5], 0.2887, which gamma = 0 has.
    Returns:
        gamma, at least 0.
    """
    t = width**-2.0
    roots = np.roots([1.0, 7.0, 16.0 - t, 12.0 - t])
    return max(float(roots.real.max()), 0.0)


def combination(stored: Sequence[Profile], wanted: Profile) -> Array:
    """Find the shares with which stored averages add up to the one that is wanted, as nearly as can be (EDM2, Algorithm 3).

    The squared difference of the profiles is least where A x = b, with the inner products of the stored profiles among each other
    in A and those with the wanted one in b. Here the shares must also add up to 1, so that weights that never change stay what they
    are: that halves the errors at least (tests/training/averages), and is where this goes beyond the paper.

    Args:
        stored: One or more, none later than the wanted one, whose weights these would bring in.
        wanted: The profile to make.
    Returns:
        x, [len(stored)].
    """
    inner, with_goal, _ = _products(stored, wanted)
    count, scale = len(stored), 1.0 / np.sqrt(np.diag(inner))  # of profiles of length 1: long and short ones then round alike
    system = np.zeros((count + 1, count + 1))
    system[:count, :count] = scale[:, None] * inner * scale
    system[count, :count] = system[:count, count] = scale
    found: Array = np.linalg.lstsq(system, np.append(scale * with_goal, 1.0), rcond=None)[0][:count] * scale
    return found


def misfit(stored: Sequence[Profile], shares: Array, wanted: Profile) -> float:
    """Tell how far the profile of a combination is from the wanted one, as a share of the length of that."""
    inner, with_goal, goal = _products(stored, wanted)
    squared = float(shares @ inner @ shares - 2.0 * shares @ with_goal) + goal
    return math.sqrt(max(squared, 0.0) / goal)


def _products(stored: Sequence[Profile], wanted: Profile) -> tuple[Array, Array, float]:
    """Inner products of the stored profiles, of each with the wanted one, and of that with itself."""
    times = np.array([profile.updates for profile in stored], dtype=np.float64)
    gammas = np.array([gamma_of_width(profile.width) for profile in stored])
    t, gamma = float(wanted.updates), gamma_of_width(wanted.width)
    inner = inner_products(times[:, None], gammas[:, None], times[None], gammas[None])
    return inner, inner_products(times, gammas, t, gamma), float(inner_products(t, gamma, t, gamma))


def inner_products(t_a: Array | float, gamma_a: Array | float, t_b: Array | float, gamma_b: Array | float) -> Array:
    """Compute the integral of the product of two profiles (EDM2, App. C.3).

    integral of p_a(tau) * p_b(tau) = (gamma_a + 1) * (gamma_b + 1) * min(t_a, t_b)**(gamma_a + gamma_b + 1)
                                      / ((gamma_a + gamma_b + 1) * t_a**(gamma_a + 1) * t_b**(gamma_b + 1))

    Args:
        t_a: Times, above 0; arrays are taken element by element.
        gamma_a: Exponents, at least 0.
        t_b: Times.
        gamma_b: Exponents.
    """
    shorter = np.minimum(t_a, t_b) / np.maximum(t_a, t_b)
    exponent = np.where(np.less(t_a, t_b), gamma_b, gamma_a)  # of the later, of which the shorter one meets the start alone
    factor = (np.add(gamma_a, 1.0) * np.add(gamma_b, 1.0)) / (np.add(gamma_a, gamma_b) + 1.0)
    found: Array = factor * shorter**exponent / np.maximum(t_a, t_b)
    return found
