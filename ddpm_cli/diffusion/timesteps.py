"""Which steps a short sampler visits."""

from __future__ import annotations

from typing import Literal, assert_never

from ddpm_cli.errors import ScheduleError

Spacing = Literal["leading", "trailing", "linspace"]


def select_timesteps(timesteps: int, steps: int | None, spacing: Spacing) -> list[int]:
    """Steps to visit, from noisy to clean (Lin et al. 2024, Table 2).

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
    n = timesteps if steps is None else steps
    if not 1 <= n <= timesteps:
        raise ScheduleError(
            f"A sampler cannot take {n} steps in a schedule of {timesteps}.", f"Choose a number of steps from 1 to {timesteps}."
        )
    below_last = [_step(timesteps, n, spacing, i) for i in range(n - 1)]
    return [timesteps - 1, *reversed(below_last)]


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
