"""Samplers on the data set of one Gaussian, whose best denoiser is known.

With it a sampler has no error of a network, only its own: the discretization of the reverse process (which shrinks as steps
grow) and, in the sampling test, the statistical one.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from gaussian_data import COVARIANCE, DIM, EYE, MEAN, PROBES, SHAPE, affine, best_denoise, coupled_denoise
from levels_of_steps import levels
from noise_sources import no_noise
from scipy import stats
from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.flows import Flow, TrigFlow
from ddpm_cli.diffusion.levels import Schedule
from ddpm_cli.diffusion.samplers.churn import Churn, churn_share
from ddpm_cli.diffusion.samplers.ddim import ddim
from ddpm_cli.diffusion.samplers.ddpm import ddpm
from ddpm_cli.diffusion.samplers.dpm_solver import dpm_solver
from ddpm_cli.diffusion.samplers.euler import euler
from ddpm_cli.diffusion.sampling import Step, sample
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.diffusion.timesteps import select_timesteps

SAMPLERS: dict[str, tuple[Callable[[], Step], int]] = {
    "ddpm fixed-small": (lambda: ddpm(), 1000),
    "ddpm fixed-large": (lambda: ddpm(variance="fixed-large"), 1000),
    "ddim eta 0": (lambda: ddim(), 1000),
    "ddim eta 0.5": (lambda: ddim(eta=0.5), 1000),
    "dpm-solver++": (lambda: dpm_solver(), 100),
}


PATHS: dict[str, Schedule] = {"flow": Flow(), "shifted": Flow(shift=3.0), "trig-flow": TrigFlow()}


def moments_of_a_deterministic_sampler(
    schedule: Schedule, step: Step, n: int, denoise: Denoise | None = None
) -> tuple[Tensor, Tensor]:
    """With this denoiser x_0 is an affine function of x_T ~ N(0, I), so mean and covariance are exact."""
    steps = levels(schedule, select_timesteps(1000, n, "trailing"))
    A, b = affine(sample(denoise or best_denoise(), step, steps, PROBES, no_noise))
    return b, A @ A.T


def moments_of_a_markov_sampler(schedule: Schedule, step: Step, n: int, denoise: Denoise | None = None) -> tuple[Tensor, Tensor]:
    """Mean and covariance through each step, x_s = A x_t + b + std z, without drawing a number."""
    denoise = denoise or best_denoise()
    mean, covariance = torch.zeros(DIM, dtype=torch.float64), EYE
    for t, s in pairwise(levels(schedule, [*select_timesteps(1000, n, "trailing"), -1])):
        quiet = step(denoise, PROBES, t, s, lambda: torch.zeros_like(PROBES)).x_s
        std = (step(denoise, PROBES, t, s, lambda: torch.ones_like(PROBES)).x_s - quiet).mean()
        A, b = affine(quiet)
        mean, covariance = A @ mean + b, A @ covariance @ A.T + std**2 * EYE
    return mean, covariance


def noisy(schedule: Schedule) -> dict[str, tuple[Callable[[], Step], int]]:
    churn = Churn(schedule.level_of_ratio, churn_share(1000, 10.0))
    return {"euler churn": (lambda: euler(churn=churn), 1000)}


def covariance_error(covariance: Tensor) -> float:
    """The largest relative error of the variance in any direction."""
    return float((torch.linalg.eigvals(torch.linalg.solve(COVARIANCE, covariance)).real - 1).abs().max())


@pytest.mark.parametrize("schedule", ["linear", *PATHS])
@pytest.mark.parametrize("name", [*SAMPLERS, "euler churn"])
def test_exact_moments(name: str, schedule: str, linear: NoiseSchedule) -> None:
    """Of paths too, along which variance is not preserved, and which begin where no signal is left."""
    at = linear if schedule == "linear" else PATHS[schedule]
    make, n = (SAMPLERS | noisy(at))[name]
    moments = moments_of_a_deterministic_sampler if name in ("ddim eta 0", "dpm-solver++") else moments_of_a_markov_sampler
    mean, covariance = moments(at, make(), n)
    assert (mean - MEAN).abs().max() < 0.005
    assert covariance_error(covariance) < 0.02


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_have_the_mean_and_covariance_of_the_data(name: str, linear: NoiseSchedule) -> None:
    """Likelihood-ratio tests of mean (chi-square, 4 degrees) and covariance (10 degrees) on 10,000 samples.

    The false-alarm rate under a new seed is about 1e-6 each. What fails: a mean off by 0.06 standard deviations, a variance off by
    10 % in one direction; the discretization is below 2 %.
    """
    make, n = SAMPLERS[name]
    count = 10_000
    generator = torch.Generator().manual_seed(5)

    def noise() -> Tensor:
        return torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)

    x_0 = sample(best_denoise(), make(), levels(linear, select_timesteps(1000, n, "trailing")), noise(), noise).flatten(1)
    deviation = x_0.mean(0) - MEAN
    of_mean = count * deviation @ torch.linalg.solve(COVARIANCE, deviation)
    ratio = torch.linalg.solve(COVARIANCE, torch.cov(x_0.T))
    of_covariance = count * (ratio.trace() - torch.logdet(ratio) - DIM)
    assert stats.chi2.sf(of_mean.item(), DIM) > 1e-6
    assert stats.chi2.sf(of_covariance.item(), DIM * (DIM + 1) // 2) > 1e-6


def test_twice_the_steps_halve_the_error_of_ddim_and_quarter_that_of_dpm_solver(linear: NoiseSchedule) -> None:
    """Orders of convergence: 1 and 2."""

    def error(step: Step, n: int) -> float:
        return covariance_error(moments_of_a_deterministic_sampler(linear, step, n)[1])

    assert 1.6 < error(ddim(), 25) / error(ddim(), 50) < 2.4
    assert error(dpm_solver(), 10) / error(dpm_solver(), 20) > 3.0
    assert error(dpm_solver(), 20) < error(ddim(), 50)


def test_a_model_of_noise_that_was_chosen_wants_a_sampler_that_adds_none(linear: NoiseSchedule) -> None:
    """Of noise that optimal transport hands to its images, trajectories end at the data; what DDPM adds makes them too narrow."""
    ends = moments_of_a_deterministic_sampler(linear, ddim(), 1000, coupled_denoise())
    assert (ends[0] - MEAN).abs().max() < 0.005
    assert covariance_error(ends[1]) < 0.02
    assert covariance_error(moments_of_a_markov_sampler(linear, ddpm(), 1000, coupled_denoise())[1]) > 0.2
