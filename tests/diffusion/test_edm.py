"""EDM's preconditioning, against the formulas of Karras et al. 2022 for images that keep their scale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from levels_of_steps import at, levels
from noise_sources import no_noise
from torch import Tensor

from ddpm_cli.diffusion.denoise import make_denoise, predictor
from ddpm_cli.diffusion.forward import q_sample
from ddpm_cli.diffusion.objectives.losses import p_losses
from ddpm_cli.diffusion.prediction import Edm, V, estimated
from ddpm_cli.diffusion.samplers.ddim import ddim
from ddpm_cli.diffusion.samplers.dpm_solver import dpm_solver
from ddpm_cli.diffusion.sampling import Step, sample
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.diffusion.timesteps import karras_levels, select_timesteps
from ddpm_cli.errors import ScheduleError

EDM = Edm(0.5)
T = torch.tensor([0, 10, 200, 600, 999])


def sigmas(schedule: NoiseSchedule) -> Tensor:
    return torch.tensor(schedule.sigmas[T.numpy()]).view(5, 1, 1, 1)


def test_the_denoiser_is_the_papers(linear: NoiseSchedule) -> None:
    """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise), with Table 1 in the paper's own scale."""
    x_0, eps = torch.randn(2, 5, 1, 3, 3, dtype=torch.float64)
    sigma, data = sigmas(linear), EDM.sigma_data
    x = x_0 + sigma * eps
    x_t = q_sample(x_0, T, eps, linear)
    seen_x, seen_noise = EDM.network_input(x_t, at(linear, T, x_t))
    torch.testing.assert_close(seen_x, x / (sigma**2 + data**2).sqrt(), rtol=1e-9, atol=0)
    torch.testing.assert_close(seen_noise, sigma.flatten().log() / 4, rtol=1e-9, atol=0)
    f = torch.randn_like(x)
    expected = data**2 / (sigma**2 + data**2) * x + sigma * data / (sigma**2 + data**2).sqrt() * f
    torch.testing.assert_close(estimated(EDM, f, x_t, at(linear, T, x_t)).x0_hat, expected, rtol=1e-9, atol=1e-12)


def test_input_and_target_have_variance_one_and_the_target_is_uncorrelated_with_the_input(linear: NoiseSchedule) -> None:
    """App. B.6, in closed form: F is linear in x_0 (of variance sigma_data**2) and eps."""
    one, zero = torch.ones(5, 1, 1, 1, dtype=torch.float64), torch.zeros(5, 1, 1, 1, dtype=torch.float64)
    levels = at(linear, T, one)
    by_x_0, by_eps = EDM.target(one, zero, levels), EDM.target(zero, one, levels)
    data2 = EDM.sigma_data**2
    torch.testing.assert_close(by_x_0**2 * data2 + by_eps**2, one)
    abar = torch.tensor(linear.alphas_cumprod[T.numpy()]).view(5, 1, 1, 1)
    c_in = EDM.preconditioning(levels).c_in
    torch.testing.assert_close(c_in**2 * (abar * data2 + 1 - abar), one)
    torch.testing.assert_close(by_x_0 * data2 * abar.sqrt() + by_eps * (1 - abar).sqrt(), zero)


def test_without_noise_the_image_passes_through() -> None:
    schedule = NoiseSchedule.from_betas(np.array([1e-12, 0.1]))
    c_skip, c_out, c_in = EDM.preconditioning(at(schedule, torch.tensor([0]), torch.ones(1, 1, 1, 1, dtype=torch.float64)))
    assert c_skip.item() == pytest.approx(1.0, abs=1e-10)
    assert c_out.item() == pytest.approx(0.0, abs=2e-6)
    assert c_in.item() == pytest.approx(1.0 / EDM.sigma_data, abs=1e-10)


def test_with_sigma_data_1_the_network_predicts_minus_v(linear: NoiseSchedule) -> None:
    x_0, eps = torch.randn(2, 5, 1, 3, 3, dtype=torch.float64)
    levels = at(linear, T, x_0)
    torch.testing.assert_close(Edm(1.0).target(x_0, eps, levels), -V().target(x_0, eps, levels))


def test_the_loss_is_the_papers(linear: NoiseSchedule) -> None:
    """Eq. 2 and Sec. 5: lambda(sigma) * |D - x_0|**2 with lambda = (sigma**2 + sigma_data**2) / (sigma * sigma_data)**2."""
    x_0, eps = torch.randn(2, 5, 1, 3, 3, dtype=torch.float64)
    loss = p_losses(lambda x, t: torch.tanh(x + t.view(-1, 1, 1, 1)), x_0, T, eps, linear, EDM)
    sigma, data = sigmas(linear), EDM.sigma_data
    x = x_0 + sigma * eps
    f = torch.tanh(x / (sigma**2 + data**2).sqrt() + sigma.log() / 4)
    d = data**2 / (sigma**2 + data**2) * x + sigma * data / (sigma**2 + data**2).sqrt() * f
    weight = (sigma**2 + data**2) / (sigma * data) ** 2
    torch.testing.assert_close(loss, (weight * (d - x_0) ** 2).flatten(1).mean(1), rtol=1e-8, atol=0)


def test_noise_levels_reach_the_network_as_float32_of_any_half_precision(linear: NoiseSchedule) -> None:
    x = torch.zeros(5, 1, 2, 2, dtype=torch.bfloat16)
    assert EDM.network_input(x, at(linear, T, x))[1].dtype == torch.float32


def test_zero_terminal_snr_is_refused() -> None:
    """PITFALL 6: c_noise would be infinite there."""
    schedule = NoiseSchedule.from_betas(np.array([0.1, 0.5, 1.0]))
    with pytest.raises(ScheduleError, match="EDM") as caught:
        predictor(best_network, schedule, EDM)
    assert '"v"' in caught.value.remedy


MEAN, STD = 0.3, 0.4


def best_network(x_in: Tensor, c_noise: Tensor) -> Tensor:
    """F of the best denoiser of N(MEAN, STD**2), from what EDM's network sees and in the paper's scale alone."""
    sigma, data = torch.exp(4 * c_noise).view(-1, 1, 1, 1), EDM.sigma_data
    x = x_in * (sigma**2 + data**2).sqrt()
    d = (STD**2 * x + sigma**2 * MEAN) / (STD**2 + sigma**2)
    return (d - data**2 / (sigma**2 + data**2) * x) * (sigma**2 + data**2).sqrt() / (sigma * data)


@pytest.mark.parametrize(("make", "steps"), [(ddim, 1000), (dpm_solver, 100)])
def test_the_samplers_take_an_edm_network(make: Callable[[], Step], steps: int, linear: NoiseSchedule) -> None:
    """Of one Gaussian the samplers are affine maps of x_T: noise 0 ends at the mean, and the slope is the deviation."""

    denoise = make_denoise(predictor(best_network, linear, EDM), linear, threshold=None)
    x_T = torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64).view(3, 1, 1, 1)
    path = levels(linear, select_timesteps(1000, steps, "trailing"))
    x_0 = sample(denoise, make(), path, x_T, no_noise).flatten()
    torch.testing.assert_close(x_0, MEAN + STD * x_T.flatten(), rtol=0, atol=0.01)


def test_between_two_steps_the_network_is_told_the_very_noise(linear: NoiseSchedule) -> None:
    """The levels of Karras' spacing are no longer rounded to those of the table."""
    told = []

    def network(x_in: Tensor, c_noise: Tensor) -> Tensor:
        told.append(float(c_noise[0]))
        return x_in

    denoise = make_denoise(predictor(network, linear, EDM), linear, threshold=None)
    x_t = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    for level in karras_levels(linear, 8):
        denoise(x_t, level)
    most, least = linear.sigmas[-1] ** (1 / 7), linear.sigmas[0] ** (1 / 7)
    assert told == pytest.approx([np.log(root**7) / 4 for root in np.linspace(most, least, 8)], rel=1e-9)
