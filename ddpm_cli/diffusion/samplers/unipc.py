"""UniPC, a predictor-corrector that needs no further network evaluations."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.samplers.multistep import Estimate, half_logsnr_at, mean_estimate
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput
from ddpm_cli.diffusion.schedules import NoiseSchedule

Variant = Literal["bh1", "bh2"]


class _Prediction(NamedTuple):
    """The step before: from x_t at t to s, by the estimate at t and those before it."""

    x_t: Tensor
    t: int
    s: int
    start: Estimate
    past: list[Estimate]


def unipc(schedule: NoiseSchedule, *, order: Literal[1, 2, 3] = 2, variant: Variant = "bh2") -> Step:
    """UniPC for any list of steps (Zhao et al. 2023, Alg. 1 and 2, with data prediction).

    alpha = sqrt(abar)    sigma = sqrt(1 - abar)    lambda = log(alpha / sigma)    h = lambda_s - lambda_t
    x_s = sigma_s / sigma_t * x_t + alpha_s * (1 - exp(-h)) * D
    predictor: D = mean over the step of the polynomial through the last `order` estimates
    corrector: the same step once more, with the estimate at the predicted x_s as one point more

    The estimate at the predicted x_s is the one that the next step needs anyway, and it stands for the corrected x_s too. As
    published, a polynomial of degree 1 has its mean halfway times B(h) / (1 - exp(-h)), except in the corrector of order 2 and up;
    B(h) is h in the variant "bh1" and 1 - exp(-h) in "bh2". Elsewhere the two are the same. The order is lower while
    there are too few estimates (none is used where the SNR is 0, nor is the step from there corrected), and 1 in the last step
    (s = -1), which ends in x_s = x0_hat.

    Args:
        schedule: The noise schedule.
        order: 1 to 3, that of the predictor; the corrector's is one higher.
        variant: "bh1" or "bh2", the paper's B(h); bh2 is its choice for guided sampling and few steps.
    Returns:
        The step function. It remembers its last estimates: use one for each trajectory.
    """
    history: list[Estimate] = []
    last: _Prediction | None = None

    def solve(x_t: Tensor, t: int, s: int, start: Estimate, others: list[Estimate]) -> Tensor:
        abar_t, abar_s = schedule.alpha_bar(t), schedule.alpha_bar(s)
        end = half_logsnr_at(schedule, s)
        D = mean_estimate(start, others, end, halfway=_halfway(variant, end - start.half_logsnr))
        ratio = math.sqrt((1.0 - abar_s) / (1.0 - abar_t))
        return ratio * x_t + (math.sqrt(abar_s) - math.sqrt(abar_t) * ratio) * D

    def step(denoise: Denoise, x_t: Tensor, t: int, s: int, noise: Noise) -> StepOutput:
        nonlocal last
        now = Estimate(half_logsnr_at(schedule, t), denoise(x_t, t).x0_hat)
        if last is None or last.s != t:
            history.clear()
        elif schedule.alpha_bar(last.t) > 0.0:
            x_t = solve(last.x_t, last.t, t, last.start, [*last.past, now])
        past = [] if s == -1 or order == 1 else history[1 - order :]
        x_s = solve(x_t, t, s, now, past)
        last = _Prediction(x_t, t, s, now, past)
        if schedule.alpha_bar(t) > 0.0:
            history.append(now)
            del history[:-2]
        return StepOutput(x_s, now.x0_hat)

    return step


def _halfway(variant: Variant, h: float) -> float:
    """The mean of v that stands in a step of h in lambda; h may be infinite where nothing is averaged."""
    return 0.5 if variant == "bh2" or math.isinf(h) else 0.5 * h / -math.expm1(-h)
