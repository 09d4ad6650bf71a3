"""Multistep consistency sampling on a Gaussian, whose consistency function is known: each step gives its distribution."""

from __future__ import annotations

import pytest
import torch
from gaussian_data import COVARIANCE, EYE, MEAN, SHAPE
from levels_of_steps import levels
from torch import Tensor

from ddpm_cli.config.schema.sample import ConsistencySampler, ListSpacing
from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.levels import Level
from ddpm_cli.diffusion.prediction import Denoised
from ddpm_cli.diffusion.samplers.consistency import consistency
from ddpm_cli.diffusion.sampling import ImageNoise, sample, sample_steps
from ddpm_cli.diffusion.schedules import NoiseSchedule

COUNT = 20_000


def best_end() -> Denoise:
    """x_0 = m + C^(1/2) (abar C + (1 - abar) I)^(-1/2) (x_t - sqrt(abar) m), where the trajectory through x_t ends."""
    values, vectors = torch.linalg.eigh(COVARIANCE)

    def denoise(x_t: Tensor, t: Level) -> Denoised:
        gain = vectors @ torch.diag((values / (t.signal * values + t.noise)).sqrt()) @ vectors.T
        flat = x_t.flatten(1)
        x0_hat = MEAN + (flat - t.alpha * MEAN) @ gain
        return Denoised(x0_hat.view_as(x_t), ((flat - t.alpha * x0_hat) / t.sigma).view_as(x_t))

    return denoise


@pytest.mark.parametrize("timesteps", [(999,), (999, 500), (999, 700, 400, 100)])
def test_samples_have_the_mean_and_covariance_of_the_data(timesteps: tuple[int, ...], linear: NoiseSchedule) -> None:
    """Mean and covariance within 5 standard errors, in each of their 14 numbers: a false alarm in 100,000 seeds.

    The trace of signal in the last step, sqrt(abar) = 0.006, moves the mean by less than half a standard error.
    """
    draws = torch.Generator().manual_seed(3)

    def noise() -> Tensor:
        return torch.randn(COUNT, *SHAPE, dtype=torch.float64, generator=draws)

    steps = levels(linear, list(timesteps))
    flat = sample(best_end(), consistency(), steps, noise(), noise).flatten(1)
    root = torch.linalg.cholesky(COVARIANCE)
    white = torch.linalg.solve_triangular(root, (flat - MEAN).T, upper=False)
    assert white.mean(1).abs().max() < 5 / COUNT**0.5
    assert (white @ white.T / COUNT - EYE).abs().max() < 5 * (2 / COUNT) ** 0.5


def test_each_step_noises_the_estimate_anew_and_the_last_one_does_not(linear: NoiseSchedule) -> None:
    steps = levels(linear, [999, 300])
    noise = ImageNoise([4, 5], SHAPE, "cpu", torch.float64)
    denoise, x_T = best_end(), noise()
    outputs = list(sample_steps(denoise, consistency(), steps, x_T, noise))
    again = ImageNoise([4, 5], SHAPE, "cpu", torch.float64)
    again()
    x0_hat = denoise(x_T, steps[0]).x0_hat
    torch.testing.assert_close(outputs[0].x_s, steps[1].alpha * x0_hat + steps[1].sigma * again())
    torch.testing.assert_close(outputs[1].x_s, denoise(outputs[0].x_s, steps[1]).x0_hat)
    assert torch.equal(noise(), again())  # none was drawn for the last step


def test_its_config_takes_two_steps_or_those_of_a_list(linear: NoiseSchedule) -> None:
    assert ConsistencySampler().evaluations(1000) == 2
    _, visited = ConsistencySampler(spacing=ListSpacing(timesteps=(999, 600, 100))).prepare(linear)
    assert [linear.step(level) for level in visited] == [999, 600, 100]
