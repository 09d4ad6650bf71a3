from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from levels_of_steps import by_step, levels
from noise_sources import no_noise

from ddpm_cli.diffusion.denoise import Denoise, clamp, make_denoise, predictor
from ddpm_cli.diffusion.prediction import Denoised, Eps, V
from ddpm_cli.diffusion.samplers.ddim import ddim
from ddpm_cli.diffusion.samplers.dpm_solver import dpm_solver
from ddpm_cli.diffusion.sampling import sample
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.diffusion.timesteps import Spacing, select_timesteps


def toy_denoise(schedule: NoiseSchedule) -> Denoise:
    return make_denoise(predictor(lambda x, t: torch.tanh(x + t[0] / 1000), schedule, Eps()), schedule, threshold=clamp)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("n", [1, 2, 10, 50])
def test_first_order_is_ddim(n: int, spacing: Spacing, linear: NoiseSchedule) -> None:
    """PITFALL 18."""
    x_T = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    steps = levels(linear, select_timesteps(1000, n, spacing))
    ours = sample(toy_denoise(linear), dpm_solver(order=1), steps, x_T, no_noise)
    torch.testing.assert_close(ours, sample(toy_denoise(linear), ddim(), steps, x_T, no_noise), rtol=1e-9, atol=1e-9)


def test_second_order_is_not_first_order(linear: NoiseSchedule) -> None:
    x_T = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    steps = levels(linear, select_timesteps(1000, 10, "trailing"))
    results = [sample(toy_denoise(linear), dpm_solver(order=order), steps, x_T, no_noise) for order in (1, 2)]
    assert not torch.allclose(*results, rtol=1e-3)


def test_three_steps_by_hand(linear: NoiseSchedule) -> None:
    """Lu et al. 2022, Alg. 2, written out with logarithms and exponentials."""
    estimates = {999: 0.1, 600: -0.4, 200: 0.8}

    denoise = by_step(linear, lambda x_t, t: Denoised(torch.full_like(x_t, estimates[t]), x_t))

    alpha = {t: math.sqrt(linear.alphas_cumprod[t]) for t in estimates}
    sigma = {t: math.sqrt(1 - linear.alphas_cumprod[t]) for t in estimates}
    lam = {t: math.log(alpha[t] / sigma[t]) for t in estimates}
    x = 1.7
    h1 = lam[600] - lam[999]
    x = sigma[600] / sigma[999] * x - alpha[600] * math.expm1(-h1) * estimates[999]
    h2 = lam[200] - lam[600]
    r = h1 / h2
    d = (1 + 1 / (2 * r)) * estimates[600] - 1 / (2 * r) * estimates[999]
    x = sigma[200] / sigma[600] * x - alpha[200] * math.expm1(-h2) * d

    step = dpm_solver()
    first, second, third, clean = levels(linear, [999, 600, 200, -1])
    x_600 = step(denoise, torch.tensor([1.7], dtype=torch.float64), first, second, no_noise).x_s
    x_200 = step(denoise, x_600, second, third, no_noise).x_s
    assert x_200.item() == pytest.approx(x, rel=1e-12)
    assert step(denoise, x_200, third, clean, no_noise).x_s.item() == pytest.approx(0.8, abs=1e-12)


def test_a_new_trajectory_needs_a_new_sampler(linear: NoiseSchedule) -> None:
    x_T = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    step, steps = dpm_solver(), levels(linear, select_timesteps(1000, 5, "trailing"))
    first = sample(toy_denoise(linear), step, steps, x_T, no_noise)
    assert torch.equal(sample(toy_denoise(linear), dpm_solver(), steps, x_T, no_noise), first)
    with pytest.raises(ValueError, match="one trajectory"):
        sample(toy_denoise(linear), step, steps, x_T, no_noise)


def test_zero_terminal_snr_gives_finite_images() -> None:
    schedule = NoiseSchedule.from_betas(np.array([0.1, 0.3, 0.5, 0.7, 1.0]))
    denoise = make_denoise(predictor(lambda x, t: torch.tanh(x), schedule, V()), schedule, threshold=clamp)
    assert sample(denoise, dpm_solver(), levels(schedule, [4, 3, 2, 1, 0]), torch.randn(1, 1, 2, 2), no_noise).isfinite().all()
