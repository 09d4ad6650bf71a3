"""Sample by multistep methods that extrapolate the noise: iPNDM and DEIS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.levels import CLEAN, Level
from ddpm_cli.diffusion.prediction import Denoised
from ddpm_cli.diffusion.samplers.multistep import Estimate, History, mean_estimate, moments
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput

_ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""Weights of the newest value, the one before, and so on, for each number of them."""


def ipndm(*, order: Literal[1, 2, 3, 4] = 4) -> Step:
    """Sample by the improved pseudo numerical method along any list of levels (Zhang & Chen 2023, DEIS, App. H.2).

    It is the multistep part of PNDM (Liu et al. 2022, Eq. 12) without its start of Runge and Kutta: a step of DDIM with
    eps = 55/24 * eps[0] - 59/24 * eps[1] + 37/24 * eps[2] - 9/24 * eps[3], the weights of Adams and Bashforth for even steps, and
    those of fewer values while there are too few. The last step, to CLEAN, ends in x_s = x0_hat.

    Args:
        order: How many values count at most; 1 is DDIM with eta = 0.
    Returns:
        The step function, of one trajectory: it remembers its last estimates, and raises ValueError on another.
    """
    return _multistep(order, _evenly)


def deis(*, order: Literal[1, 2, 3] = 3) -> Step:
    """Sample by the exponential integrator of Adams and Bashforth along any list of levels (Zhang & Chen 2023, DEIS, Eq. 14, 15).

    x_s / alpha_s = x_t / alpha_t + integral of eps over sigma / alpha from t to s, exact for the polynomial in lambda =
    log(alpha / sigma) through the last `order` estimates of eps, as in diffusers ("logrho").

    The order is lower while there are too few estimates (none is used where the SNR is 0), and 1 in the last step, to CLEAN,
    which ends in x_s = x0_hat.

    Args:
        order: 1 to 3; 1 is DDIM with eta = 0.
    Returns:
        The step function, of one trajectory: it remembers its last estimates, and raises ValueError on another.
    """
    return _multistep(order, _over_the_step)


def _multistep(order: int, average: Callable[[Estimate, Sequence[Estimate], Level], Tensor]) -> Step:
    """Step with a mean of the noise; `average` makes it of the estimate now, those before it (oldest first) and the next level."""
    history = History(order - 1)

    def step(denoise: Denoise, x_t: Tensor, t: Level, s: Level, noise: Noise) -> StepOutput:
        history.enter(t, s)
        estimate = denoise(x_t, t)
        now = Estimate(t.half_logsnr, estimate.eps_hat)
        mean = average(now, [] if s == CLEAN else history.last(order - 1), s)
        history.keep(t, now)
        return _along(mean, estimate, t, s)

    return step


def _evenly(now: Estimate, past: Sequence[Estimate], s: Level) -> Tensor:
    values = [now.value, *(earlier.value for earlier in reversed(past))]
    weights = _ADAMS_BASHFORTH[len(values) - 1]
    return sum((weight * value for weight, value in zip(weights[1:], values[1:], strict=True)), weights[0] * values[0])


def _over_the_step(now: Estimate, past: Sequence[Estimate], s: Level) -> Tensor:
    # Of the noise the mean has the weight exp(-h * v), which falls where that of x_0 rises.
    halfway = moments(now.half_logsnr - s.half_logsnr, 1)[0] if past else 0.5
    return mean_estimate(now, past, s.half_logsnr, rate=-1.0, halfway=halfway)


def _along(mean: Tensor, estimate: Denoised, t: Level, s: Level) -> StepOutput:
    """Go from t to s with a mean of the noise over the step: x_s / alpha_s = x_t / alpha_t + (ratio_s - ratio_t) * mean."""
    x_s = s.alpha * estimate.x0_hat + s.sigma * estimate.eps_hat
    if t.signal > 0.0:
        x_s = x_s + (s.sigma - s.alpha * t.ratio) * (mean - estimate.eps_hat)
    return StepOutput(x_s, estimate.x0_hat)
