"""Sample by UniPC, a predictor-corrector that needs no further network evaluations."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.levels import CLEAN, Level
from ddpm_cli.diffusion.samplers.multistep import Estimate, History, mean_estimate
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput

Variant = Literal["bh1", "bh2"]


class _Prediction(NamedTuple):
    """Hold the step before: from x_t at t, by the estimate at t and those before it."""

    x_t: Tensor
    t: Level
    start: Estimate
    past: list[Estimate]


def unipc(*, order: Literal[1, 2, 3] = 2, variant: Variant = "bh2") -> Step:
    """Sample by UniPC along any list of levels (Zhao et al. 2023, Alg. 1 and 2, with data prediction).

    lambda = log(alpha / sigma)    h = lambda_s - lambda_t
    x_s = sigma_s / sigma_t * x_t + alpha_s * (1 - exp(-h)) * D
    predictor: D = mean over the step of the polynomial through the last `order` estimates
    corrector: the same step once more, with the estimate at the predicted x_s as one point more

    The estimate at the predicted x_s is the one that the next step needs anyway, and it stands for the corrected x_s too. As
    published, a polynomial of degree 1 has its mean halfway times B(h) / (1 - exp(-h)), except in the corrector of order 2 and up;
    B(h) is h in the variant "bh1" and 1 - exp(-h) in "bh2". Elsewhere the two are the same. The order is lower while
    there are too few estimates (none is used where the SNR is 0, nor is the step from there corrected), and 1 in the last step,
    to CLEAN, which ends in x_s = x0_hat.

    Args:
        order: 1 to 3, that of the predictor; the corrector's is one higher.
        variant: "bh1" or "bh2", the paper's B(h); bh2 is its choice for guided sampling and few steps.
    Returns:
        The step function, of one trajectory: it remembers its last estimates, and raises ValueError on another.
    """
    history = History()
    last: _Prediction | None = None

    def solve(x_t: Tensor, t: Level, s: Level, start: Estimate, others: list[Estimate]) -> Tensor:
        D = mean_estimate(start, others, s.half_logsnr, halfway=_halfway(variant, s.half_logsnr - start.half_logsnr))
        ratio = math.sqrt(s.noise / t.noise)
        return ratio * x_t + (s.alpha - t.alpha * ratio) * D

    def step(denoise: Denoise, x_t: Tensor, t: Level, s: Level, noise: Noise) -> StepOutput:
        nonlocal last
        history.enter(t, s)
        now = Estimate(t.half_logsnr, denoise(x_t, t).x0_hat)
        if last is not None and last.t.signal > 0.0:
            x_t = solve(last.x_t, last.t, t, last.start, [*last.past, now])
        past = [] if s == CLEAN else history.last(order - 1)
        x_s = solve(x_t, t, s, now, past)
        last = _Prediction(x_t, t, now, past)
        history.keep(t, now)
        return StepOutput(x_s, now.value)

    return step


def _halfway(variant: Variant, h: float) -> float:
    """The mean of v that stands in a step of h in lambda; h may be infinite where nothing is averaged."""
    return 0.5 if variant == "bh2" or math.isinf(h) else 0.5 * h / -math.expm1(-h)
