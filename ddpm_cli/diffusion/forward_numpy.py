"""Run the forward process without torch, for pictures of it."""

from __future__ import annotations

from ddpm_cli.diffusion.schedules import NoiseSchedule, Table


def q_sample_numpy(x_0: Table, t: int, eps: Table, schedule: NoiseSchedule) -> Table:
    """Noise an image to step t (DDPM, Eq. 4), in float64; the same as `forward.q_sample`.

    x_t = sqrt(alphas_cumprod[t]) * x_0 + sqrt(1 - alphas_cumprod[t]) * eps

    Args:
        x_0: An image in [-1, 1], of any shape.
        t: Step in [0, T).
        eps: Standard normal noise, shaped like x_0.
        schedule: The noise schedule.
    Returns:
        x_t, float64, shaped like x_0.
    """
    x_t: Table = schedule.sqrt_alphas_cumprod[t] * x_0 + schedule.sqrt_one_minus_alphas_cumprod[t] * eps
    return x_t
