"""List the levels of noise that a short sampler visits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, assert_never

import numpy as np

from ddpm_cli.diffusion.levels import Level, Schedule
from ddpm_cli.errors import ScheduleError

Spacing = Literal["leading", "trailing", "linspace"]

MAX_SIGMA = 164.0
"""Where the published DPM-Solver cuts a schedule off, at lambda = log(alpha / sigma) = -5.1."""


def select_timesteps(timesteps: int, steps: int | None, spacing: Spacing) -> list[int]:
    """Select the steps to visit, from noisy to clean (Lin et al. 2024, Table 2).

    leading:  i * (T // n) for i in 0 ... n - 1
    trailing: round(T * i / n) - 1 for i in 1 ... n
    linspace: round((T - 1) * i / (n - 1)) for i in 0 ... n - 1

    The largest is always T - 1, where x_T belongs; "leading" would start earlier and gets its largest step replaced.

    Args:
        timesteps: T, the number of noise levels.
        steps: n, how many to visit, 1 to T; None is all of them.
        spacing: "leading", "trailing" or "linspace".
    Returns:
        n strictly descending steps in [0, T).
    Raises:
        ScheduleError: If n is not in 1 to T.
    """
    n = _checked(timesteps, steps)
    below_last = [_step(timesteps, n, spacing, i) for i in range(n - 1)]
    return [timesteps - 1, *reversed(below_last)]


def even_levels(schedule: Schedule, steps: int | None, spacing: Spacing) -> list[Level]:
    """List the levels of `select_timesteps`; where t is continuous, without rounding to whole steps of the grid.

    Raises:
        ScheduleError: If n is not in 1 to T.
    """
    T = schedule.timesteps
    whole = select_timesteps(T, steps, spacing)
    if not schedule.is_continuous:
        return [schedule.at(t) for t in whole]
    n = len(whole)
    real = [_real_step(T, n, spacing, i) for i in range(n - 1)]
    return [schedule.at(T - 1), *(schedule.level((step + 1.0) / T) for step in reversed(real))]


def logsnr_levels(schedule: Schedule, steps: int | None, *, max_sigma: float | None = MAX_SIGMA) -> list[Level]:
    """Space the levels to visit evenly in the logarithm of the SNR (Lu et al. 2022, DPM-Solver, Sec. 3.3).

    log(sigma) = linspace(log(sigma_max), log(sigma_min), n); the first level is the schedule's last, whatever its sigma

    Args:
        schedule: The noise schedule; sigma is sqrt((1 - abar) / abar). sigma_max is that of the noisiest step up to max_sigma,
            sigma_min that of step 0.
        steps: n, how many to visit, 1 to T; None is all of the table's own.
        max_sigma: Beyond 164 x_t is noise but for half a per cent, and a cosine schedule, whose last sigma is 20,291, would spend
            most of its steps there. None takes the largest finite sigma, after an infinite one, as earlier versions did.
    Returns:
        n levels of falling noise, down to that of step 0. They lie between the steps of the table, at the very sigmas.
    Raises:
        ScheduleError: If n is not in 1 to T.
    """
    return _by_sigma(
        schedule, steps, max_sigma, lambda most, least, share: math.exp(math.log(most) + share * math.log(least / most))
    )


def karras_levels(schedule: Schedule, steps: int | None, *, rho: float = 7.0, max_sigma: float | None = MAX_SIGMA) -> list[Level]:
    """Space the levels to visit evenly in sigma**(1 / rho) (Karras et al. 2022, Eq. 5).

    sigma = linspace(sigma_max**(1 / rho), sigma_min**(1 / rho), n)**rho; the first level is the schedule's last, whatever its sigma

    Args:
        schedule: The noise schedule; sigma, sigma_max and sigma_min as in logsnr_levels.
        steps: n, how many to visit, 1 to T; None is all of the table's own.
        rho: At least 1; the larger, the more steps at low noise. 7 is the paper's.
        max_sigma: As in logsnr_levels.
    Returns:
        As logsnr_levels.
    Raises:
        ScheduleError: If n is not in 1 to T.
    """
    root = 1.0 / rho
    return _by_sigma(
        schedule, steps, max_sigma, lambda most, least, share: (most**root + share * (least**root - most**root)) ** rho
    )


def noisiest_spaced(schedule: Schedule, max_sigma: float) -> int:
    """Find the noisiest step from which steps are spaced by noise: the last with a sigma up to max_sigma."""
    return max(int(np.count_nonzero(schedule.sigmas <= max_sigma)) - 1, 0)


def _by_sigma(
    schedule: Schedule, steps: int | None, max_sigma: float | None, spaced: Callable[[float, float, float], float]
) -> list[Level]:
    """Levels with sigmas between the most and the least; `spaced` takes these two and a share of the way in [0, 1]."""
    T = schedule.timesteps
    n = _checked(T, steps)
    if steps is None or n == T:
        return [schedule.at(t) for t in reversed(range(T))]
    last = schedule.at(T - 1)
    limit = np.finfo(float).max if max_sigma is None else max_sigma
    noisiest = noisiest_spaced(schedule, limit)
    shares = np.linspace(0.0, 1.0, n)
    if max_sigma is None and math.isinf(last.ratio):
        shares = np.concatenate([[0.0], np.linspace(0.0, 1.0, n - 1)]) if n > 1 else shares
    most, least = schedule.at(noisiest).ratio, schedule.at(0).ratio
    between = [schedule.level_of_ratio(spaced(most, least, share)) for share in shares[1:-1].tolist()]
    if n == 1:
        return [last]
    return [last, *between, schedule.at(0)]


def _checked(timesteps: int, steps: int | None) -> int:
    n = timesteps if steps is None else steps
    if not 1 <= n <= timesteps:
        raise ScheduleError(
            f"A sampler cannot take {n} steps in a schedule of {timesteps}.", f"Choose a number of steps from 1 to {timesteps}."
        )
    return n


def _step(timesteps: int, n: int, spacing: Spacing, i: int) -> int:
    """The i-th smallest of n steps."""
    match spacing:
        case "leading":
            return i * (timesteps // n)
        case "trailing":
            return round(timesteps * (i + 1) / n) - 1
        case "linspace":
            return round((timesteps - 1) * i / (n - 1))
    assert_never(spacing)


def _real_step(timesteps: int, n: int, spacing: Spacing, i: int) -> float:
    """The same without rounding."""
    match spacing:
        case "leading":
            return i * (timesteps / n)
        case "trailing":
            return timesteps * (i + 1) / n - 1
        case "linspace":
            return (timesteps - 1) * i / (n - 1)
    assert_never(spacing)
