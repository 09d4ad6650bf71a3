"""Run the forward process without torch, for pictures of it."""

from __future__ import annotations

from ddpm_cli.diffusion.levels import Schedule, Table


def q_sample_numpy(x_0: Table, t: int, eps: Table, schedule: Schedule) -> Table:
    """Noise an image to step t (DDPM, Eq. 4), in float64; the same as `forward.q_sample`.

    x_t = alpha_t * x_0 + sigma_t * eps

    Args:
        x_0: An image in [-1, 1], of any shape.
        t: Step in [0, T).
        eps: Standard normal noise, shaped like x_0.
        schedule: The noise schedule.
    Returns:
        x_t, float64, shaped like x_0.
    """
    level = schedule.at(t)
    x_t: Table = level.alpha * x_0 + level.sigma * eps
    return x_t
