"""DPM-Solver++, fast solvers of the probability-flow ODE and of the reverse SDE."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.samplers.multistep import Estimate, half_logsnr_at, mean_estimate
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.errors import RequestError


def dpm_solver(schedule: NoiseSchedule, *, order: Literal[1, 2, 3] = 2, sde: bool = False) -> Step:
    """DPM-Solver++ multistep for any list of steps (Lu et al. 2022, DPM-Solver++, Alg. 2).

    alpha = sqrt(abar)    sigma = sqrt(1 - abar)    lambda = log(alpha / sigma)    h = lambda_s - lambda_t
    x_s = sigma_s / sigma_t * x_t + alpha_s * (1 - exp(-h)) * D
    order 1: D = x0_hat    order 2: D = x0_hat + D1 / 2    order 3: D = x0_hat + moments[1] * D1 + moments[2] * D2

    D1 and D2 are h and h**2 / 2 times the first and second derivative in lambda at t of the line or parabola through the last
    estimates. The published code of order 3 has half of our D2, with which it converges at order 2 only.

    sde (SDE-DPM-Solver++, the same paper): the same D with another weight, and fresh noise z
    x_s = sigma_s / sigma_t * exp(-h) * x_t + alpha_s * (1 - exp(-2 * h)) * D + sigma_s * sqrt(1 - exp(-2 * h)) * z
    Its order 3 (3M SDE, of k-diffusion) has moments of 2 * h; k-diffusion has half of our D2 there too, and diffusers' D2 has the
    wrong sign.

    The order is lower while there are too few estimates (none is used where the SNR is 0), and 1 in the last step (s = -1),
    which ends in x_s = x0_hat.

    Args:
        schedule: The noise schedule.
        order: 1 to 3. Order 1 is DDIM with eta = 0, or with sde DDPM with the fixed-small variance.
        sde: Solve the reverse SDE instead of the ODE.
    Returns:
        The step function. It remembers its last estimates: use one for each trajectory.
    Raises:
        RequestError: If there is no such order.
    """
    if order not in (1, 2, 3):
        raise RequestError(f"DPM-Solver++ has no order {order}.", "Choose 1, 2 or 3.")
    history: list[Estimate] = []
    expected = schedule.timesteps

    def step(denoise: Denoise, x_t: Tensor, t: int, s: int, noise: Noise) -> StepOutput:
        nonlocal expected
        if t != expected:
            history.clear()
        abar_t, abar_s = schedule.alpha_bar(t), schedule.alpha_bar(s)
        now = Estimate(half_logsnr_at(schedule, t), denoise(x_t, t).x0_hat)
        past = [] if s == -1 or order == 1 else history[1 - order :]
        D = mean_estimate(now, past, half_logsnr_at(schedule, s), rate=2.0 if sde else 1.0)
        ratio = ((1.0 - abar_s) / (1.0 - abar_t)) ** 0.5
        # exp(-h) without a logarithm, which has no value at s = -1.
        decay = ratio * (abar_t / abar_s) ** 0.5
        if sde:
            x_s = ratio * decay * x_t + abar_s**0.5 * (1.0 - decay**2) * D
            if s != -1:
                x_s = x_s + ((1.0 - abar_s) * (1.0 - decay**2)) ** 0.5 * noise()
        else:
            x_s = ratio * x_t + abar_s**0.5 * (1.0 - decay) * D
        if abar_t > 0.0:
            history.append(now)
            del history[:-2]
        expected = s
        return StepOutput(x_s, now.x0_hat)

    return step
