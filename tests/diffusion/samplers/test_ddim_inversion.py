from __future__ import annotations

import pytest
import torch
from levels_of_steps import levels
from noise_sources import no_noise

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.flows import Flow, TrigFlow
from ddpm_cli.diffusion.levels import Level, Schedule
from ddpm_cli.diffusion.prediction import Denoised
from ddpm_cli.diffusion.samplers.ddim import ddim, ddim_invert
from ddpm_cli.diffusion.sampling import sample
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.diffusion.timesteps import logsnr_levels, select_timesteps

SHAPE = (4, 1, 8, 8)


def mixture_denoise() -> Denoise:
    """The best denoiser where each pixel is -0.5 or 0.5, each with a standard deviation of 0.2."""

    def denoise(x_t: torch.Tensor, t: Level) -> Denoised:
        total = 0.04 * t.signal + t.noise
        mean = 0.5 * torch.tanh(0.5 * t.alpha * x_t / total)
        x0_hat = mean + 0.04 * t.alpha / total * (x_t - t.alpha * mean)
        return Denoised(x0_hat, (x_t - t.alpha * x0_hat) / t.sigma)

    return denoise


def image() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    sign = torch.randint(2, SHAPE, generator=generator) - 0.5
    return (sign + 0.2 * torch.randn(SHAPE, generator=generator)).double()


@pytest.mark.parametrize(("n", "iterations", "limit"), [(1000, 1, 0.02), (100, 1, 0.15), (100, 20, 1e-9), (50, 20, 1e-9)])
def test_inversion_and_back_returns_the_image(n: int, iterations: int, limit: float, linear: NoiseSchedule) -> None:
    denoise = mixture_denoise()
    steps = logsnr_levels(linear, n) if iterations > 1 else levels(linear, select_timesteps(1000, n, "linspace"))
    x_T = ddim_invert(denoise, steps, image(), iterations=iterations)
    difference = (sample(denoise, ddim(), steps, x_T, no_noise) - image()).abs().max()
    assert difference < limit


@pytest.mark.parametrize("schedule", [Flow(), Flow(shift=3.0), TrigFlow()], ids=["flow", "flow, shifted", "trig-flow"])
def test_it_goes_back_from_noise_alone(schedule: Schedule) -> None:
    """Where no signal is left, the noise of x_t is x_t itself, and what the step before was made from follows from x0_hat."""
    denoise, steps = mixture_denoise(), logsnr_levels(schedule, 50)
    assert steps[0].signal == 0.0
    x_T = ddim_invert(denoise, steps, image(), iterations=20)
    assert (sample(denoise, ddim(), steps, x_T, no_noise) - image()).abs().max() < 1e-9


def test_more_iterations_and_more_steps_bring_it_nearer(linear: NoiseSchedule) -> None:
    denoise = mixture_denoise()

    def error(n: int, iterations: int) -> float:
        steps = levels(linear, select_timesteps(1000, n, "linspace"))
        x_T = ddim_invert(denoise, steps, image(), iterations=iterations)
        return float((sample(denoise, ddim(), steps, x_T, no_noise) - image()).abs().mean())

    assert error(1000, 1) < 0.5 * error(250, 1)
    assert error(50, 5) < 0.5 * error(50, 1)


def test_the_noise_of_an_image_is_standard_normal(linear: NoiseSchedule) -> None:
    """256 values of images drawn from the denoiser's own distribution: mean and deviation within 4 standard errors of N(0, 1)."""
    x_T = ddim_invert(mixture_denoise(), levels(linear, select_timesteps(1000, 1000, "linspace")), image())
    assert abs(x_T.mean()) < 4 / 256**0.5
    assert abs(x_T.std() - 1) < 4 / (2 * 256) ** 0.5
    assert not x_T.requires_grad
