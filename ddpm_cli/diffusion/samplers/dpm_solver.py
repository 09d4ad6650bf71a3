"""DPM-Solver++, a fast solver of the probability-flow ODE."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from ddpm_cli.diffusion.parameterization import Denoise
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput
from ddpm_cli.diffusion.schedules import NoiseSchedule


class _Previous(NamedTuple):
    """The step before: from t to s, and its estimate."""

    t: int
    s: int
    x0_hat: Tensor


def dpm_solver(schedule: NoiseSchedule, *, order: Literal[1, 2] = 2) -> Step:
    """DPM-Solver++(2M) for any list of steps (Lu et al. 2022, DPM-Solver++, Alg. 2).

    alpha = sqrt(abar)    sigma = sqrt(1 - abar)    lambda = log(alpha / sigma)
    h = lambda_s - lambda_t    r = (lambda_t - lambda_previous) / h
    D = (1 + 1 / (2 * r)) * x0_hat - 1 / (2 * r) * x0_hat_previous
    x_s = sigma_s / sigma_t * x_t + alpha_s * (1 - exp(-h)) * D

    Two steps are of first order, with D = x0_hat: the first, which has nothing before it, and the last (s = -1), where
    lambda_s is infinite, so that r would be 0; it ends in x_s = x0_hat.

    Args:
        schedule: The noise schedule.
        order: 2, or 1 for first order throughout, which is DDIM with eta = 0.
    Returns:
        The step function. It remembers its last estimate: use one for each trajectory.
    """
    half_logsnr = schedule.half_logsnr
    previous: _Previous | None = None

    def combined(x0_hat: Tensor, t: int, s: int) -> Tensor:
        if order == 1 or s == -1 or previous is None or previous.s != t:
            return x0_hat
        inverse_r = float((half_logsnr[s] - half_logsnr[t]) / (half_logsnr[t] - half_logsnr[previous.t]))
        return (1.0 + 0.5 * inverse_r) * x0_hat - 0.5 * inverse_r * previous.x0_hat

    def step(denoise: Denoise, x_t: Tensor, t: int, s: int, noise: Noise) -> StepOutput:
        nonlocal previous
        abar_t, abar_s = schedule.alpha_bar(t), schedule.alpha_bar(s)
        x0_hat = denoise(x_t, t).x0_hat
        ratio = ((1.0 - abar_s) / (1.0 - abar_t)) ** 0.5
        # alpha_s * (1 - exp(-h)) without a logarithm, which has no value at s = -1.
        coef_x_0 = abar_s**0.5 - abar_t**0.5 * ratio
        x_s = ratio * x_t + coef_x_0 * combined(x0_hat, t, s)
        previous = _Previous(t, s, x0_hat)
        return StepOutput(x_s, x0_hat)

    return step
