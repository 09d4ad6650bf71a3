from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
import torch
from gaussian_data import COVARIANCE, MEAN, SHAPE, best_denoise
from levels_of_steps import levels
from noise_sources import no_noise
from torch import Tensor

from ddpm_cli.diffusion.editing.repaint import repaint_path, repaint_steps
from ddpm_cli.diffusion.flows import Flow, TrigFlow
from ddpm_cli.diffusion.levels import Schedule
from ddpm_cli.diffusion.samplers.ddim import ddim
from ddpm_cli.diffusion.samplers.ddpm import ddpm
from ddpm_cli.diffusion.sampling import Noise, sample
from ddpm_cli.diffusion.schedules import NoiseSchedule, make_beta_schedule
from ddpm_cli.diffusion.timesteps import select_timesteps
from ddpm_cli.errors import ScheduleError

KNOWN, UNKNOWN = slice(0, 2), slice(2, 4)
X_0 = torch.tensor([1.2, -1.0, 9.0, 9.0], dtype=torch.float64)
"""The last two values are to be filled and must not count."""
MASK = torch.tensor([[False, False], [True, True]])


def noises(count: int) -> Noise:
    generator = torch.Generator().manual_seed(1)

    def noise() -> Tensor:
        return torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)

    return noise


@pytest.fixture(params=["linear", "flow", "trig-flow"])
def schedule(request: pytest.FixtureRequest, linear: NoiseSchedule) -> Schedule:
    return {"linear": linear, "flow": Flow(), "trig-flow": TrigFlow()}[request.param]


def fill(schedule: Schedule, count: int, n: int, jump: int, resample: int) -> Tensor:
    path = repaint_path(levels(schedule, select_timesteps(1000, n, "trailing")), jump, resample)
    steps = repaint_steps(best_denoise(), ddpm(), path, X_0.view(1, *SHAPE), MASK, noises(count))
    return list(steps)[-1].x_s.flatten(1)


def test_resampling_brings_the_filled_to_its_conditional_distribution(schedule: Schedule) -> None:
    """N(m + G (known - m), C_uu - G C_ku), G = C_uk C_kk^-1; 2,000 images, so that a standard error is below 0.02.

    The limits are on RePaint's own error, which resampling makes smaller; without it the mean goes half of the way.
    """
    gain = COVARIANCE[UNKNOWN, KNOWN] @ torch.linalg.inv(COVARIANCE[KNOWN, KNOWN])
    mean = MEAN[UNKNOWN] + gain @ (X_0[KNOWN] - MEAN[KNOWN])
    covariance = COVARIANCE[UNKNOWN, UNKNOWN] - gain @ COVARIANCE[KNOWN, UNKNOWN]
    way = mean - MEAN[UNKNOWN]  # from what is likely if nothing is known
    errors = {}
    for resample in (1, 10):
        filled = fill(schedule, 2000, 100, 5, resample)
        assert torch.equal(filled[:, KNOWN], X_0[KNOWN].expand(2000, 2))
        errors[resample] = ((filled[:, UNKNOWN].mean(0) - mean) / way).abs()
        spread = torch.cov(filled[:, UNKNOWN].T)
    assert (errors[1] > 0.4).all()
    assert (errors[10] < 0.2).all()
    assert (spread.diagonal() / covariance.diagonal() - 1).abs().max() < 0.25


def test_what_is_known_is_as_noisy_as_the_step(schedule: Schedule) -> None:
    """Over 2,000 images; 5 standard errors of a mean and of a deviation, for 10 steps and 2 values: 1 false alarm in 10,000."""
    path = repaint_path(levels(schedule, select_timesteps(1000, 11, "trailing")), 5, 1)
    filling = repaint_steps(best_denoise(), ddpm(), path, X_0.view(1, *SHAPE), MASK, noises(2000))
    for s, output in zip(path[1:-1], filling, strict=False):
        known = output.x_s.flatten(1)[:, KNOWN]
        assert (known.mean(0) - s.alpha * X_0[KNOWN]).abs().max() < 5 * s.sigma / 2000**0.5
        assert (known.std(0) / s.sigma - 1).abs().max() < 5 / (2 * 2000) ** 0.5


def test_filling_everything_is_sampling(linear: NoiseSchedule) -> None:
    """Without noise in the steps, as noise is drawn for what is known too."""
    timesteps = levels(linear, select_timesteps(1000, 10, "trailing"))
    path, x_T = repaint_path(timesteps, 3, 1), noises(3)()
    everything = torch.ones_like(MASK)
    steps = repaint_steps(best_denoise(), ddim(), path, X_0.view(1, *SHAPE), everything, noises(3))
    assert torch.equal(list(steps)[-1].x_s, sample(best_denoise(), ddim(), timesteps, x_T, no_noise))


def path_of(steps: Iterable[int], jump: int, resample: int) -> list[int]:
    schedule = NoiseSchedule.from_betas(make_beta_schedule("linear", 250))
    return [round(schedule.step(level)) for level in repaint_path(levels(schedule, steps), jump, resample)]


def test_jumps_of_one_step_are_algorithm_1() -> None:
    """Each step but the last is taken `resample` times."""
    assert path_of([3, 2, 1, 0], 1, 2) == [3, 2, 3, 2, 1, 2, 1, 0, 1, 0, -1]


def test_blocks_are_counted_from_the_clean_end() -> None:
    assert path_of([5, 4, 3, 2, 1, 0], 2, 3) == [5, 4, 3, 2, 4, 3, 2, 4, 3, 2, 1, 0, 2, 1, 0, 2, 1, 0, -1]
    assert path_of([5, 4, 3], 1, 1) == [5, 4, 3, -1]


def test_the_papers_path_denoises_and_jumps_as_often_as_its_own() -> None:
    """Sec. 5: 250 steps, 10 samplings, jumps of 10; jumps begin at 0, 10 ... 230, 9 times each."""
    moves = list(pairwise(path_of(range(249, -1, -1), 10, 10)))
    jumps = [t for t, s in moves if s > t]
    assert sorted(set(jumps)) == list(range(0, 240, 10))
    assert all(jumps.count(t) == 9 for t in jumps)
    assert sum(s < t for t, s in moves) == 250 + 24 * 9 * 10


@pytest.mark.parametrize(("jump", "resample"), [(0, 2), (1, 0), (4, 2), (9, 2)])
def test_jumps_that_do_not_fit_are_refused(jump: int, resample: int) -> None:
    with pytest.raises(ScheduleError):
        path_of([3, 2, 1, 0], jump, resample)
