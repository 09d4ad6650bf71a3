from __future__ import annotations

import pytest
import torch
from levels_of_steps import levels
from noise_sources import no_noise
from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.forward import Levels, q_posterior, q_sample
from ddpm_cli.diffusion.levels import Level
from ddpm_cli.diffusion.prediction import Denoised, eps_from_x_0
from ddpm_cli.diffusion.samplers.ddim import ddim
from ddpm_cli.diffusion.samplers.ddpm import ddpm
from ddpm_cli.diffusion.sampling import ImageNoise, sample
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.diffusion.timesteps import select_timesteps

SHAPE = (2, 1, 2, 2)
X_T, X0_HAT, Z = torch.randn(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def denoise_to(x0_hat: Tensor) -> Denoise:
    def denoise(x_t: Tensor, t: Level) -> Denoised:
        return Denoised(x0_hat, eps_from_x_0(x_t, x0_hat, Levels.all_at(t, 0, x_t)))

    return denoise


@pytest.mark.parametrize("t", [0, 1, 2, 500, 999])
def test_eta_1_on_all_steps_is_the_ddpm_posterior(t: int, linear: NoiseSchedule) -> None:
    """PITFALL 18."""
    mean, variance, _ = q_posterior(X0_HAT, X_T, torch.full((2,), t), linear)
    output = ddim(eta=1.0)(denoise_to(X0_HAT), X_T, *levels(linear, [t, t - 1]), lambda: Z)
    torch.testing.assert_close(output.x_s, mean + variance.sqrt() * Z, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n", [7, 50])
def test_eta_1_is_ddpm_on_any_list_of_steps(n: int, cosine: NoiseSchedule) -> None:
    steps = levels(cosine, select_timesteps(1000, n, "linspace"))

    def denoise(x_t: Tensor, t: Level) -> Denoised:
        x0_hat = torch.tanh(x_t)
        return Denoised(x0_hat, eps_from_x_0(x_t, x0_hat, Levels.all_at(t, 0, x_t)))

    results = []
    for sampler in (ddim(eta=1.0), ddpm()):
        noise = ImageNoise([0, 1], SHAPE[1:], "cpu", torch.float64)
        results.append(sample(denoise, sampler, steps, noise(), noise))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("t", "s"), [(999, 950), (500, 499), (10, 0), (19, -1)])
def test_eta_0_draws_no_noise_and_keeps_the_direction(t: int, s: int, linear: NoiseSchedule) -> None:
    eps = torch.randn_like(X0_HAT)
    x_t = q_sample(X0_HAT, torch.full((2,), t), eps, linear)
    x_s = ddim()(denoise_to(X0_HAT), x_t, *levels(linear, [t, s]), no_noise).x_s
    expected = X0_HAT if s == -1 else q_sample(X0_HAT, torch.full((2,), s), eps, linear)
    torch.testing.assert_close(x_s, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("eta", [0.3, 0.7, 1.0])
def test_eta_scales_the_standard_deviation(eta: float, linear: NoiseSchedule) -> None:
    def spread(eta: float) -> Tensor:
        path = levels(linear, [700, 600])
        outputs = [ddim(eta=eta)(denoise_to(X0_HAT), X_T, *path, lambda z=z: z * Z).x_s for z in (0, 1)]
        return (outputs[1] - outputs[0]) / Z

    torch.testing.assert_close(spread(eta), eta * spread(1.0))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_marginal_at_s_is_that_of_the_forward_process(eta: float, linear: NoiseSchedule) -> None:
    """For the true x_0 (Song et al. 2021, Lemma 1): squared weights of the direction and the noise make 1 - abar_s."""
    t, s = levels(linear, [700, 600])
    step = ddim(eta=eta)
    zero = torch.zeros_like(Z)

    def from_eps_hat(x_t: Tensor, t: Level) -> Denoised:
        return Denoised(zero, torch.ones_like(x_t))

    along = step(from_eps_hat, X_T, t, s, lambda: zero).x_s
    noise = step(from_eps_hat, X_T, t, s, lambda: torch.ones_like(Z)).x_s - along
    torch.testing.assert_close(along**2 + noise**2, torch.full_like(Z, s.noise))


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_last_step_draws_no_noise_and_ends_in_the_estimate(eta: float, linear: NoiseSchedule) -> None:
    output = ddim(eta=eta)(denoise_to(X0_HAT), X_T, *levels(linear, [19, -1]), no_noise)
    torch.testing.assert_close(output.x_s, X0_HAT)
    assert output.x0_hat is X0_HAT
