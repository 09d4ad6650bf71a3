"""Heun's method, of second order with two network evaluations per step."""

from __future__ import annotations

from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.samplers.churn import NO_CHURN, Churn, add_churn
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput
from ddpm_cli.diffusion.schedules import NoiseSchedule

MAX_SIGMA = 200.0


def heun(schedule: NoiseSchedule, *, churn: Churn = NO_CHURN) -> Step:
    """Heun's method on the probability-flow ODE in sigma (Karras et al. 2022, Alg. 2).

    sigma = sqrt((1 - abar) / abar)    y = x / sqrt(abar)    dy / dsigma = (y - x0_hat) / sigma = eps_hat
    Euler:   y_s' = y_t + (sigma_s - sigma_t) * eps_hat(y_t)
    correct: y_s = y_t + (sigma_s - sigma_t) * (eps_hat(y_t) + eps_hat(y_s')) / 2
                 = y_s' + (sigma_t / sigma_s - 1) / 2 * (x0_hat(y_s') - x0_hat(y_t))

    n steps take 2 * n - 1 network evaluations: the last (s = -1) is Euler's. So are steps from a sigma above 200, as the cosine
    schedule and zero terminal SNR have: x_t is noise there but for half a per cent, Euler's step is nearly exact, and the
    correction would multiply the rounding of x0_hat by sigma_t / sigma_s.

    Args:
        schedule: The noise schedule.
        churn: Noise that is added before each step; none makes it deterministic.
    Returns:
        The step function.
    """
    sigmas = schedule.sigmas

    def step(denoise: Denoise, x_t: Tensor, t: int, s: int, noise: Noise) -> StepOutput:
        x_u, u = add_churn(schedule, churn, x_t, t, noise)
        estimate = denoise(x_u, u)
        abar_s = schedule.alpha_bar(s)
        x_s = abar_s**0.5 * estimate.x0_hat + (1.0 - abar_s) ** 0.5 * estimate.eps_hat
        if s == -1 or sigmas[u] > MAX_SIGMA:
            return StepOutput(x_s, estimate.x0_hat)
        weight = abar_s**0.5 * 0.5 * float(sigmas[u] / sigmas[s] - 1.0)
        return StepOutput(x_s + weight * (denoise(x_s, s).x0_hat - estimate.x0_hat), estimate.x0_hat)

    return step
