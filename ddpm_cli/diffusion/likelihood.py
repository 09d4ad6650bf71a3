"""Estimate the variational bound on the likelihood of images, term by term (DDPM, Eq. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm_cli.diffusion.denoise import Predict, Threshold, clamp, thresholded
from ddpm_cli.diffusion.forward import Levels, q_sample
from ddpm_cli.diffusion.objectives.vlb import LEVELS, prior_term, vlb_term
from ddpm_cli.diffusion.prediction import Denoised
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.diffusion.variances import ModelVariance
from ddpm_cli.errors import ScheduleError


class Bound(NamedTuple):
    """Hold the bound's terms in bits per dimension, [B] each; their sum is at least -log2 p(image) / dimensions on average.

    Attributes:
        prior: What x_T still tells of the image; no network has a part in it.
        steps: All steps but the decoder's.
        decoder: The last step, from t = 0 to pixels.
    """

    prior: Tensor
    steps: Tensor
    decoder: Tensor

    @property
    def total(self) -> Tensor:
        """Add up the bound, [B]."""
        return self.prior + self.steps + self.decoder


@torch.no_grad()
def bits_per_dim(
    predict: Predict,
    x_0: Tensor,
    schedule: NoiseSchedule,
    *,
    variance: ModelVariance,
    generator: torch.Generator,
    steps: int | None = None,
    threshold: Threshold | None = clamp,
    labels: Tensor | None = None,
    levels: int = LEVELS,
) -> Bound:
    """Estimate the variational bound on the negative log-likelihood (DDPM, Eq. 5; Nichol & Dhariwal 2021, Sec. 3).

    total = L_T + sum over t = 1 ... T-1 of L_t + L_0

    With fewer steps than T the sum is estimated: T - 1 is cut into equal parts, and each image draws one t from each, so that the
    result is the same on average and only noisier. It is still the bound of all T steps, not that of a shorter process.

    Args:
        predict: The network's estimates, not clipped.
        x_0: Images on the grid of `levels` values in [-1, 1], real pixels only, [B, C, H, W].
        schedule: The noise schedule.
        variance: Of the reverse steps.
        generator: Draws noise and steps; on the device of x_0.
        steps: Network evaluations for each image, in [2, T]; None takes all T.
        threshold: Applied to each estimate of x_0, as in sampling; None leaves it alone.
        labels: The class of each image, int64, [B], or None.
        levels: Values that a pixel has.
    Returns:
        The terms of each image.
    Raises:
        ScheduleError: If there are fewer than 2 steps (1 if T = 1) or more than T.
        ConfigError: If the variance is learned-range and the network did not learn one.
    """

    def term(t: Tensor) -> Tensor:
        eps = torch.randn(x_0.shape, generator=generator, device=x_0.device, dtype=x_0.dtype)
        x_t = q_sample(x_0, t, eps, schedule)
        estimate = within_range(x_t, Levels.of_steps(schedule, t, x_t), labels)
        return vlb_term(estimate, x_0, x_t, t, schedule, variance, levels)

    check_steps(schedule.timesteps, steps)
    within_range = thresholded(predict, threshold)
    batch, inner = len(x_0), schedule.timesteps - 1
    draws = inner if steps is None else steps - 1
    total = torch.zeros(batch, dtype=torch.float64)
    for part in range(draws):
        total += term(_step_of_part(part, draws, inner, batch, generator)).double().cpu()
    decoder = term(torch.zeros(batch, dtype=torch.int64, device=x_0.device))
    mean = total / max(draws, 1)
    return Bound(prior_term(x_0, schedule).double().cpu(), inner * mean, decoder.double().cpu())


def respaced(predict: Predict, schedule: NoiseSchedule, timesteps: Sequence[int]) -> tuple[Predict, NoiseSchedule]:
    """Shorten a process to some steps of its schedule, with betas of its own (Nichol & Dhariwal 2021, Eq. 19).

    betas = 1 - abar_t / abar_s for each step t and the next lower one s, whose bound is that of the sampler with these steps

    Args:
        predict: Estimates under the schedule.
        schedule: The noise schedule.
        timesteps: Strictly descending steps in [0, T), from T - 1.
    Returns:
        Estimates by the steps of the shorter process, and its schedule.
    """
    visited = torch.tensor(sorted(timesteps))

    def predict_visited(x_t: Tensor, at: Levels, labels: Tensor | None) -> Denoised:
        return predict(x_t, at._replace(step=visited.to(at.step.device)[at.step]), labels)

    return predict_visited, NoiseSchedule.from_alphas_cumprod(schedule.alphas_cumprod[visited.numpy()])


def check_steps(timesteps: int, steps: int | None) -> None:
    """Refuse a number of network evaluations that `bits_per_dim` cannot take.

    Raises:
        ScheduleError: If there are fewer than 2 steps (1 if T = 1) or more than T.
    """
    fewest = min(timesteps, 2)
    if steps is not None and not fewest <= steps <= timesteps:
        raise ScheduleError(f"The bound takes {fewest} to {timesteps} steps, not {steps}.")


def _step_of_part(part: int, parts: int, inner: int, batch: int, generator: torch.Generator) -> Tensor:
    """For each image a uniform draw from one of equal parts of the steps 1 to `inner`; with as many parts as steps, that step."""
    if parts == inner:
        return torch.full((batch,), 1 + part, dtype=torch.int64, device=generator.device)
    share = torch.rand(batch, generator=generator, device=generator.device)
    return 1 + ((part + share) * (inner / parts)).long().clamp(max=inner - 1)
