"""Solve the probability-flow ODE, or the reverse SDE, fast: DPM-Solver++."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.levels import CLEAN, Level
from ddpm_cli.diffusion.samplers.multistep import Estimate, History, mean_estimate
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput
from ddpm_cli.errors import RequestError


def dpm_solver(*, order: Literal[1, 2, 3] = 2, sde: bool = False) -> Step:
    """Sample by multistep DPM-Solver++ along any list of levels (Lu et al. 2022, DPM-Solver++, Alg. 2).

    lambda = log(alpha / sigma)    h = lambda_s - lambda_t
    x_s = sigma_s / sigma_t * x_t + alpha_s * (1 - exp(-h)) * D
    order 1: D = x0_hat    order 2: D = x0_hat + D1 / 2    order 3: D = x0_hat + moments[1] * D1 + moments[2] * D2

    D1 and D2 are h and h**2 / 2 times the first and second derivative in lambda at t of the line or parabola through the last
    estimates. The published code of order 3 has half of our D2, with which it converges at order 2 only.

    sde (SDE-DPM-Solver++, the same paper): the same D with another weight, and fresh noise z
    x_s = sigma_s / sigma_t * exp(-h) * x_t + alpha_s * (1 - exp(-2 * h)) * D + sigma_s * sqrt(1 - exp(-2 * h)) * z
    Its order 3 (3M SDE, of k-diffusion) has moments of 2 * h; k-diffusion has half of our D2 there too, and diffusers' D2 has the
    wrong sign.

    The order is lower while there are too few estimates (none is used where the SNR is 0), and 1 in the last step, to CLEAN,
    which ends in x_s = x0_hat.

    Args:
        order: 1 to 3. Order 1 is DDIM with eta = 0, or with sde DDPM with the fixed-small variance.
        sde: Solve the reverse SDE instead of the ODE.
    Returns:
        The step function, of one trajectory: it remembers its last estimates, and raises ValueError on another.
    Raises:
        RequestError: If there is no such order.
    """
    if order not in (1, 2, 3):
        raise RequestError(f"DPM-Solver++ has no order {order}.", "Choose 1, 2 or 3.")
    history = History()

    def step(denoise: Denoise, x_t: Tensor, t: Level, s: Level, noise: Noise) -> StepOutput:
        history.enter(t, s)
        now = Estimate(t.half_logsnr, denoise(x_t, t).x0_hat)
        past = [] if s == CLEAN else history.last(order - 1)
        D = mean_estimate(now, past, s.half_logsnr, rate=2.0 if sde else 1.0)
        ratio = (s.noise / t.noise) ** 0.5
        # exp(-h) without a logarithm, which has no value for clean data.
        decay = ratio * (t.signal / s.signal) ** 0.5
        if sde:
            x_s = ratio * decay * x_t + s.alpha * (1.0 - decay**2) * D
            if s != CLEAN:
                x_s = x_s + (s.noise * (1.0 - decay**2)) ** 0.5 * noise()
        else:
            x_s = ratio * x_t + s.alpha * (1.0 - decay) * D
        history.keep(t, now)
        return StepOutput(x_s, now.value)

    return step
