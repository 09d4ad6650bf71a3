from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from levels_of_steps import levels
from noise_sources import no_noise
from torch import Tensor

from ddpm_cli.diffusion.forward import q_posterior
from ddpm_cli.diffusion.levels import Level
from ddpm_cli.diffusion.prediction import Denoised
from ddpm_cli.diffusion.samplers.ddpm import Variance, ddpm
from ddpm_cli.diffusion.schedules import NoiseSchedule, compute_alphas
from ddpm_cli.diffusion.timesteps import select_timesteps
from ddpm_cli.errors import RequestError

SHAPE = (2, 1, 2, 2)
X_T, X0_HAT, Z = torch.randn(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def denoise(x_t: Tensor, t: Level) -> Denoised:
    return Denoised(X0_HAT, torch.full_like(x_t, torch.nan))


def step(schedule: NoiseSchedule, variance: Variance, t: int, s: int, noise: Any = lambda: Z) -> Tensor:
    return ddpm(variance=variance)(denoise, X_T, *levels(schedule, [t, s]), noise).x_s


@pytest.mark.parametrize("t", [1, 2, 300, 999])
def test_a_step_over_one_level_samples_the_posterior(t: int, linear: NoiseSchedule) -> None:
    mean, variance, _ = q_posterior(X0_HAT, X_T, torch.full((2,), t), linear)
    torch.testing.assert_close(step(linear, "fixed-small", t, t - 1), mean + variance.sqrt() * Z)
    torch.testing.assert_close(step(linear, "fixed-large", t, t - 1), mean + linear.betas[t] ** 0.5 * Z)


@pytest.mark.parametrize("variance", ["fixed-small", "fixed-large"])
def test_a_respaced_step_is_a_step_of_the_respaced_schedule(variance: Variance, linear: NoiseSchedule) -> None:
    """The chain over [0, 3, 250, 600, 999] is itself a diffusion process of 5 steps (Nichol & Dhariwal 2021, Sec. 4)."""
    kept = [0, 3, 250, 600, 999]
    abar = [1.0, *linear.alphas_cumprod[kept]]
    short = NoiseSchedule.from_betas(1 - torch.tensor([b / a for a, b in pairwise(abar)], dtype=torch.float64).numpy())
    torch.testing.assert_close(compute_alphas(short.betas)[1], linear.alphas_cumprod[kept])
    for i in range(1, 5):
        expected = step(short, variance, i, i - 1)
        torch.testing.assert_close(step(linear, variance, kept[i], kept[i - 1]), expected)


@pytest.mark.parametrize("variance", ["fixed-small", "fixed-large", "learned-range"])
@pytest.mark.parametrize("t", [0, 19])
def test_the_last_step_draws_no_noise_and_ends_in_the_estimate(t: int, variance: Variance, linear: NoiseSchedule) -> None:
    """PITFALL 3."""
    torch.testing.assert_close(step(linear, variance, t, -1, no_noise), X0_HAT)


def test_the_two_variances_differ_where_steps_are_long(linear: NoiseSchedule) -> None:
    assert not torch.allclose(step(linear, "fixed-small", 100, 50), step(linear, "fixed-large", 100, 50), rtol=0.01)


def test_zero_terminal_snr_gives_a_finite_first_step() -> None:
    schedule = NoiseSchedule.from_betas(torch.tensor([0.1, 0.5, 1.0]).numpy())
    assert step(schedule, "fixed-small", 2, 1).isfinite().all()


@pytest.mark.parametrize("t", [2, 300, 999])
def test_the_learned_variance_lies_between_the_fixed_ones(t: int, linear: NoiseSchedule) -> None:
    """Nichol & Dhariwal 2021, Eq. 15, pixel by pixel: 0 is fixed-small, 1 fixed-large, and 1/2 their geometric mean."""

    def learned(x_t: Tensor, t: Level) -> Denoised:
        return Denoised(X0_HAT, x_t, torch.tensor([[0.0, 0.5], [1.0, 0.5]], dtype=torch.float64).expand(SHAPE))

    def noise_of(variance: Variance) -> Tensor:
        outputs = [
            ddpm(variance=variance)(learned, X_T, *levels(linear, [t, t - 1]), lambda z=z: torch.full(SHAPE, z)).x_s
            for z in (0.0, 1.0)
        ]
        return outputs[1] - outputs[0]

    small, large, ours = noise_of("fixed-small"), noise_of("fixed-large"), noise_of("learned-range")
    torch.testing.assert_close(ours[..., 0, 0], small[..., 0, 0])
    torch.testing.assert_close(ours[..., 1, 0], large[..., 1, 0])
    torch.testing.assert_close(ours[..., 1], (small * large).sqrt()[..., 1])


def test_a_learned_variance_that_was_not_learned_is_refused(linear: NoiseSchedule) -> None:
    with pytest.raises(RequestError, match="variance"):
        step(linear, "learned-range", 10, 9)


def variance_of_samples(schedule: NoiseSchedule, variance: Variance, learned: bool) -> float:
    """Of 25 steps on data N(0, 0.25), by the best denoiser and, if learned, the best variance within the range that is learned."""
    steps, data, found = select_timesteps(1000, 25, "trailing"), 0.25, 1.0
    for t, s in pairwise(levels(schedule, [*steps, -1])):
        abar, before = t.signal, s.signal
        marginal = abar * data + 1 - abar
        beta = 1 - abar / before
        small, spread = beta * (1 - before) / (1 - abar), data * (1 - abar) / marginal
        true = small + (before**0.5 * beta / (1 - abar)) ** 2 * spread
        fraction = min(max(math.log(true / small) / math.log(beta / small), 0.0), 1.0) if s.noise > 0 else 0.0

        def denoise(x_t: Tensor, t: Level, abar: float = abar, marginal: float = marginal, fraction: float = fraction) -> Denoised:
            x0_hat = abar**0.5 * data / marginal * x_t
            eps_hat = (x_t - abar**0.5 * x0_hat) / (1 - abar) ** 0.5
            return Denoised(x0_hat, eps_hat, torch.full_like(x_t, fraction) if learned else None)

        step, one = ddpm(variance=variance), torch.ones(1, 1, 1, 1, dtype=torch.float64)
        gain = float(step(denoise, one, t, s, lambda: torch.zeros_like(one)).x_s)  # noqa: B023
        std = float(step(denoise, one, t, s, lambda: torch.ones_like(one)).x_s) - gain  # noqa: B023
        found = gain**2 * found + std**2
    return found / data


def test_a_learned_variance_is_used_by_itself_where_there_is_one(linear: NoiseSchedule) -> None:
    """With few steps fixed-small loses a third of the data's variance; what can be learned loses a tenth."""
    small, learned = (variance_of_samples(linear, kind, learned=True) for kind in ("fixed-small", "learned-range"))
    assert variance_of_samples(linear, "auto", learned=True) == learned
    assert variance_of_samples(linear, "auto", learned=False) == small
    assert small < 0.75 < 0.85 < learned < 1.05
