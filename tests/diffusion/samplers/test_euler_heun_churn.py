from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from levels_of_steps import levels
from noise_sources import no_noise
from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise, make_denoise, predictor
from ddpm_cli.diffusion.levels import Level
from ddpm_cli.diffusion.prediction import Denoised, Eps, V
from ddpm_cli.diffusion.samplers.churn import Churn, add_churn, churn_share
from ddpm_cli.diffusion.samplers.ddim import ddim
from ddpm_cli.diffusion.samplers.ddpm import ddpm
from ddpm_cli.diffusion.samplers.dpm_solver import dpm_solver
from ddpm_cli.diffusion.samplers.euler import euler
from ddpm_cli.diffusion.samplers.heun import heun
from ddpm_cli.diffusion.sampling import sample
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.diffusion.timesteps import select_timesteps

SHAPE = (2, 1, 4, 4)


def toy(schedule: NoiseSchedule) -> Denoise:
    return make_denoise(predictor(lambda x, t: torch.tanh(x + t[0] / 1000), schedule, Eps()), schedule, threshold=None)


def x_T() -> Tensor:
    return torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("n", [1, 7, 50])
def test_euler_in_sigma_is_ddim(n: int, linear: NoiseSchedule) -> None:
    steps = levels(linear, select_timesteps(1000, n, "linspace"))
    ours = sample(toy(linear), euler(), steps, x_T(), no_noise)
    torch.testing.assert_close(ours, sample(toy(linear), ddim(), steps, x_T(), no_noise), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [7, 50])
def test_the_sde_solver_of_first_order_is_ddpm(n: int, linear: NoiseSchedule) -> None:
    steps = levels(linear, select_timesteps(1000, n, "linspace"))
    results = []
    for step in (dpm_solver(order=1, sde=True), ddpm()):
        generator = torch.Generator().manual_seed(5)
        noise = lambda generator=generator: torch.randn(SHAPE, dtype=torch.float64, generator=generator)  # noqa: E731
        results.append(sample(toy(linear), step, steps, x_T(), noise))
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


def test_a_step_of_heun_by_hand(linear: NoiseSchedule) -> None:
    """Karras et al. 2022, Alg. 2, in their own coordinates."""
    t, s = levels(linear, [600, 300])
    sigma_t, sigma_s = linear.sigmas[600], linear.sigmas[300]
    denoise = toy(linear)

    def D(y: Tensor, level: Level) -> Tensor:
        return denoise(y * level.alpha, level).x0_hat

    y = x_T() / t.alpha
    d = (y - D(y, t)) / sigma_t
    y_euler = y + (sigma_s - sigma_t) * d
    d_next = (y_euler - D(y_euler, s)) / sigma_s
    y_s = y + (sigma_s - sigma_t) * (d + d_next) / 2
    ours = heun()(denoise, x_T(), t, s, no_noise).x_s
    torch.testing.assert_close(ours, y_s * s.alpha, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n", [1, 2, 10])
def test_heun_takes_2n_minus_1_evaluations(n: int, linear: NoiseSchedule) -> None:
    calls = []
    denoise = toy(linear)

    def counted(x_t: Tensor, t: Level) -> Denoised:
        calls.append(t)
        return denoise(x_t, t)

    sample(counted, heun(), levels(linear, select_timesteps(1000, n, "trailing")), x_T(), no_noise)
    assert len(calls) == 2 * n - 1


@pytest.mark.parametrize("make", [euler, heun])
def test_zero_terminal_snr_gives_finite_images(make: Any) -> None:
    schedule = NoiseSchedule.from_betas(np.append(np.linspace(0.01, 0.2, 40), 1.0))
    denoise = make_denoise(predictor(lambda x, t: torch.tanh(x), schedule, V()), schedule, threshold=None)
    step = make(churn=Churn(schedule.level_of_ratio, 0.25))
    assert sample(denoise, step, levels(schedule, [40, 30, 20, 10, 0]), x_T(), lambda: torch.randn(SHAPE)).isfinite().all()


def test_churn_is_the_forward_process_to_a_noisier_step(linear: NoiseSchedule) -> None:
    """Mean and variance are those of q(x_u | x_t); s_noise scales the standard deviation alone."""
    t, churn = linear.at(500), Churn(linear.level_of_ratio, gamma=0.3)
    zero, one = (add_churn(churn, x_T(), t, lambda z=z: torch.full(SHAPE, z)) for z in (0.0, 1.0))
    u = zero[1]
    assert u.ratio == pytest.approx(1.3 * linear.sigmas[500], rel=1e-12)
    step = linear.step(u)
    assert linear.sigmas[int(step)] < u.ratio < linear.sigmas[int(step) + 1]
    alphas = u.signal / linear.alphas_cumprod[500]
    torch.testing.assert_close(zero[0], alphas**0.5 * x_T())
    torch.testing.assert_close(one[0] - zero[0], torch.full(SHAPE, (1 - alphas) ** 0.5, dtype=torch.float64))
    louder, _ = add_churn(replace(churn, s_noise=2.0), x_T(), t, lambda: torch.ones(SHAPE))
    torch.testing.assert_close(louder - zero[0], 2 * (one[0] - zero[0]))


@pytest.mark.parametrize(
    ("options", "step"), [({"gamma": 0.0}, 500), ({"s_min": 2.0}, 100), ({"s_max": 2.0}, 900), ({}, 999), (None, 500)]
)
def test_outside_of_its_range_and_at_the_last_level_churn_adds_nothing(
    options: dict[str, float] | None, step: int, linear: NoiseSchedule
) -> None:
    churn = None if options is None else Churn(linear.level_of_ratio, **{"gamma": 0.4, **options})
    x_t, t = x_T(), linear.at(step)
    x_u, u = add_churn(churn, x_t, t, no_noise)
    assert u == t
    assert x_u is x_t


def test_churn_is_spread_over_the_steps_up_to_a_limit() -> None:
    assert churn_share(100, 10.0) == pytest.approx(0.1)
    assert churn_share(10, 80.0) == pytest.approx(math.sqrt(2) - 1)


def test_the_network_is_asked_at_the_noisier_step(linear: NoiseSchedule) -> None:
    asked = []

    def denoise(x_t: Tensor, t: Level) -> Denoised:
        asked.append(t)
        return Denoised(x_t, x_t)

    (t, s), churn = levels(linear, [500, 400]), Churn(linear.level_of_ratio, 0.3)
    for make in (euler, heun):
        make(churn=churn)(denoise, x_T(), t, s, lambda: torch.zeros(SHAPE))
    u = add_churn(churn, x_T(), t, lambda: torch.zeros(SHAPE))[1]
    assert u.t > t.t
    assert asked == [u, u, s]
