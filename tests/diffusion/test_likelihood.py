"""Likelihoods of models whose likelihood is known."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from noise_sources import source
from scipy import stats
from torch import Tensor

from ddpm_cli.diffusion.denoise import Predict
from ddpm_cli.diffusion.flows import Flow, TrigFlow
from ddpm_cli.diffusion.forward import Levels
from ddpm_cli.diffusion.likelihood import bits_per_dim, respaced
from ddpm_cli.diffusion.ode_likelihood import (
    Field,
    density_bits,
    dequantised,
    hutchinson_divergence,
    logsnr_grid,
    ode_log_density,
)
from ddpm_cli.diffusion.prediction import Denoised
from ddpm_cli.diffusion.schedules import NoiseSchedule, make_beta_schedule
from ddpm_cli.diffusion.timesteps import select_timesteps
from ddpm_cli.diffusion.variances import ModelVariance
from ddpm_cli.errors import ScheduleError

MEAN, STD = 0.1, 0.3


# ------------------------------------------------------------------------------------------------------------- the bound


def gaussian_pixels(n: int) -> Tensor:
    """Images of independent pixels from N(MEAN, STD**2), rounded to the grid of 256 values."""
    values = MEAN + STD * torch.randn(n, 1, 4, 4, generator=source(1), dtype=torch.float64)
    return ((values + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


def gaussian_bits(x_0: Tensor) -> np.ndarray:
    """What each image costs under N(MEAN, STD**2) for every pixel, integrated over bins, in bits per dimension."""
    p, pixels = stats.norm(MEAN, STD), x_0.flatten(1).numpy()
    return -np.log2(p.cdf(pixels + 1 / 255) - p.cdf(pixels - 1 / 255)).mean(1)


def gaussian_model(schedule: NoiseSchedule) -> Predict:
    """The best denoiser of N(MEAN, STD**2) with the true variance of p(x_{t-1} | x_t), which is Gaussian here."""

    def predict(x_t: Tensor, at: Levels, labels: Tensor | None) -> Denoised:
        steps = at.step.numpy()
        abar, before, beta = (
            torch.tensor(table[steps]).view(-1, 1, 1, 1)
            for table in (schedule.alphas_cumprod, schedule.alphas_cumprod_prev, schedule.betas)
        )
        marginal = abar * STD**2 + 1 - abar
        x0_hat = MEAN + abar.sqrt() * STD**2 / marginal * (x_t - abar.sqrt() * MEAN)
        spread = STD**2 * (1 - abar) / marginal  # of x_0 given x_t
        variance = beta * (1 - before) / (1 - abar) + (before.sqrt() * beta / (1 - abar)) ** 2 * spread
        small = torch.tensor(schedule.posterior_log_variance_clipped[steps]).view(-1, 1, 1, 1)
        fraction = (variance.log() - small) / (beta.log() - small)
        return Denoised(x0_hat, (x_t - abar.sqrt() * x0_hat) / (1 - abar).sqrt(), fraction)

    return predict


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_the_bound_of_a_respaced_process_is_its_likelihood(kind: str) -> None:
    """The best model of the shorter process is exact too, so that its bound is the data's likelihood, with a tenth of the steps."""
    whole = NoiseSchedule.from_betas(make_beta_schedule(kind, 100))
    steps = select_timesteps(100, 11, "linspace")
    shorter = NoiseSchedule.from_alphas_cumprod(whole.alphas_cumprod[steps[::-1]])
    best = gaussian_model(shorter)

    def by_the_steps_of_the_whole(x_t: Tensor, at: Levels, labels: Tensor | None) -> Denoised:
        return best(x_t, at._replace(step=torch.tensor([steps[::-1].index(int(step)) for step in at.step])), labels)

    predict, schedule = respaced(by_the_steps_of_the_whole, whole, steps)
    assert np.allclose(schedule.alphas_cumprod, shorter.alphas_cumprod)
    x_0 = gaussian_pixels(400)
    bound = bits_per_dim(predict, x_0, schedule, variance="learned-range", generator=source(2), threshold=None).total.numpy()
    difference = bound - gaussian_bits(x_0)
    assert abs(difference.mean()) < 5 * difference.std() / 20 + 0.005
    assert schedule.timesteps == 11


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_the_bound_of_the_true_model_is_its_likelihood(kind: str) -> None:
    """The terms are exact here, so the bound is tight but for noise: 5 standard errors, a false alarm in 2 million."""
    schedule = NoiseSchedule.from_betas(make_beta_schedule(kind, 100))
    x_0 = gaussian_pixels(8000)
    bound = bits_per_dim(gaussian_model(schedule), x_0, schedule, variance="learned-range", generator=source(), threshold=None)
    gap = bound.total.numpy() - gaussian_bits(x_0)
    error = gap.std() / len(gap) ** 0.5
    assert error < 0.01
    assert abs(gap.mean()) < 5 * error + 2e-3  # what a bin of this width adds
    for term in bound:
        assert term.shape == (8000,)
        assert term.dtype == torch.float64


def test_fixed_variances_cost_more_than_the_true_one() -> None:
    schedule = NoiseSchedule.from_betas(make_beta_schedule("cosine", 20))
    x_0 = gaussian_pixels(4000)
    means = {
        variance: float(
            bits_per_dim(
                gaussian_model(schedule), x_0, schedule, variance=variance, generator=source(), threshold=None
            ).total.mean()
        )
        for variance in get_args(ModelVariance)
    }
    assert means["learned-range"] + 0.02 < min(means["fixed-small"], means["fixed-large"])


def test_fewer_steps_estimate_the_same_sum() -> None:
    schedule = NoiseSchedule.from_betas(make_beta_schedule("cosine", 50))
    x_0 = gaussian_pixels(8000)
    model = gaussian_model(schedule)
    whole = bits_per_dim(model, x_0, schedule, variance="fixed-small", generator=source(2), threshold=None).steps
    for steps in (2, 9):
        part = bits_per_dim(model, x_0, schedule, variance="fixed-small", generator=source(3), steps=steps, threshold=None).steps
        error = math.hypot(float(part.std()), float(whole.std())) / 8000**0.5
        assert abs(float(part.mean() - whole.mean())) < 5 * error, steps
        assert error < 0.2 * float(whole.mean())


def test_every_step_is_visited_once_and_all_of_them_get_their_turn_in_a_part() -> None:
    schedule = NoiseSchedule.from_betas(make_beta_schedule("cosine", 10))
    seen: list[Tensor] = []

    def predict(x_t: Tensor, at: Levels, labels: Tensor | None) -> Denoised:
        seen.append(at.step)
        return Denoised(x_t, x_t)

    x_0 = torch.zeros(400, 1, 1, 1)
    bits_per_dim(predict, x_0, schedule, variance="fixed-small", generator=source())
    assert [t.unique().tolist() for t in seen] == [[t] for t in [*range(1, 10), 0]]
    seen.clear()
    bits_per_dim(predict, x_0, schedule, variance="fixed-small", generator=source(), steps=4)
    assert [t.unique().tolist() for t in seen] == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [0]]


def test_estimates_are_clipped_as_in_sampling() -> None:
    schedule = NoiseSchedule.from_betas(make_beta_schedule("cosine", 10))
    x_0 = torch.ones(4, 1, 2, 2)

    def far(x_t: Tensor, t: Tensor, labels: Tensor | None) -> Denoised:
        return Denoised(torch.full_like(x_t, 7.0), x_t)

    def edge(x_t: Tensor, t: Tensor, labels: Tensor | None) -> Denoised:
        return Denoised(torch.full_like(x_t, 1.0), x_t)

    clipped = bits_per_dim(far, x_0, schedule, variance="fixed-small", generator=source())
    expected = bits_per_dim(edge, x_0, schedule, variance="fixed-small", generator=source(), threshold=None)
    assert torch.equal(clipped.total, expected.total)
    assert bits_per_dim(far, x_0, schedule, variance="fixed-small", generator=source(), threshold=None).total.min() > 10


@pytest.mark.parametrize("steps", [0, 1, 11])
def test_steps_that_make_no_bound_are_refused(steps: int) -> None:
    schedule = NoiseSchedule.from_betas(make_beta_schedule("cosine", 10))
    with pytest.raises(ScheduleError, match="2 to 10 steps"):
        bits_per_dim(
            gaussian_model(schedule), gaussian_pixels(1), schedule, variance="fixed-small", generator=source(), steps=steps
        )


# --------------------------------------------------------------------------------------------------------------- the ODE

CENTRES = torch.tensor([[-0.6, 0.2], [0.5, 0.5], [0.1, -0.7]], dtype=torch.float64)
SHARES = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
WIDTH = 0.2


def mixture_model(x_t: Tensor, at: Levels, labels: Tensor | None) -> Denoised:
    """The best denoiser of a mixture of three Gaussians in two dimensions."""
    alpha, sigma = at.alpha.view(-1, 1), at.sigma.view(-1, 1)
    marginal = (alpha * WIDTH) ** 2 + sigma**2
    x = x_t.flatten(1)
    distance = x[:, None] - alpha[:, None] * CENTRES
    posterior = torch.softmax(SHARES.log() - distance.square().sum(2) / (2 * marginal), dim=1)
    shift = alpha * WIDTH**2 / marginal
    x0_hat = (posterior[:, :, None] * (CENTRES + shift[:, None] * distance)).sum(1)
    return Denoised(x0_hat.view_as(x_t), ((x - alpha * x0_hat) / sigma).view_as(x_t))


def mixture_log_density(x: Tensor) -> np.ndarray:
    parts = [stats.multivariate_normal(centre.numpy(), WIDTH**2).pdf(x.flatten(1).numpy()) for centre in CENTRES]
    return np.log(SHARES.numpy() @ np.array(parts))


def exact_divergence(field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
    """The trace of the field's Jacobian, one dimension at a time: D backward passes, for few dimensions."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        value = field(x)
        flat = value.flatten(1)
        columns = range(flat.shape[1])
        diagonal = [torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0].flatten(1)[:, i] for i in columns]
    return value.detach(), torch.stack(diagonal).sum(0)


def mixture_points(n: int) -> Tensor:
    draws = source(7)
    which = torch.multinomial(SHARES, n, replacement=True, generator=draws)
    noise = torch.randn(n, 2, generator=draws, dtype=torch.float64)
    return (CENTRES[which] + WIDTH * noise).view(n, 1, 1, 2)


@pytest.mark.parametrize("kind", ["linear", "cosine", "flow", "flow, shifted", "trig-flow"])
def test_the_ode_likelihood_of_a_mixture_is_the_analytic_one(kind: str) -> None:
    """To 1e-2 bits per dimension at every single point, most of it from the first noise level being taken for none."""
    paths = {"flow": Flow(), "flow, shifted": Flow(shift=3.0), "trig-flow": TrigFlow()}
    schedule = paths[kind] if kind in paths else NoiseSchedule.from_betas(make_beta_schedule(kind, 1000))
    x = mixture_points(64)
    found = ode_log_density(mixture_model, x, schedule, logsnr_grid(schedule, 200), exact_divergence)
    gap = (found.numpy() - mixture_log_density(x)) / (2 * math.log(2))
    assert np.abs(gap).max() < 1e-2


def test_the_ode_likelihood_holds_under_zero_terminal_snr() -> None:
    schedule = NoiseSchedule.from_betas(make_beta_schedule("cosine", 1000, max_beta=0.5))
    signal = schedule.sqrt_alphas_cumprod
    schedule = NoiseSchedule.from_alphas_cumprod(((signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])) ** 2)
    assert schedule.alphas_cumprod[-1] == 0
    x = mixture_points(32)
    found = ode_log_density(mixture_model, x, schedule, logsnr_grid(schedule, 200), exact_divergence)
    assert np.abs(found.numpy() - mixture_log_density(x)).max() / (2 * math.log(2)) < 1e-2


def test_hutchinsons_estimate_comes_to_the_same_with_many_probes(linear: NoiseSchedule) -> None:
    """2,000 probes for each of 4 points; their mean is within 5 of its standard errors of the analytic density."""
    points, probes = mixture_points(4), 2000
    x = points.repeat_interleave(probes, dim=0)
    signs = torch.randint(2, x.shape, generator=source(8)).double() * 2 - 1
    grid = logsnr_grid(linear, 100)
    found = ode_log_density(mixture_model, x, linear, grid, hutchinson_divergence(signs)).view(4, probes)
    error = found.std(1).numpy() / probes**0.5
    gap = found.mean(1).numpy() - mixture_log_density(points)
    assert (error > 0).all()
    assert (np.abs(gap) / (2 * math.log(2)) < 1e-2 + 5 * error).all()
    assert error.max() < 0.02


def test_heun_is_of_second_order(linear: NoiseSchedule) -> None:
    x = mixture_points(64)
    exact = ode_log_density(mixture_model, x, linear, range(1000), exact_divergence)
    errors = [
        float((ode_log_density(mixture_model, x, linear, logsnr_grid(linear, n), exact_divergence) - exact).abs().mean())
        for n in (25, 50)
    ]
    assert math.log2(errors[0] / errors[1]) > 1.6


def test_divergences_of_a_linear_field_are_its_trace() -> None:
    matrix = torch.randn(6, 6, dtype=torch.float64)

    def field(x: Tensor) -> Tensor:
        return (x.flatten(1) @ matrix.T).view_as(x)

    x = torch.randn(3, 1, 2, 3, dtype=torch.float64)
    value, divergence = exact_divergence(field, x)
    torch.testing.assert_close(value, field(x))
    torch.testing.assert_close(divergence, matrix.trace().expand(3))
    signs = torch.tensor([[1.0, -1, 1, 1, -1, 1]], dtype=torch.float64).repeat(3, 1).view(3, 1, 2, 3)
    _, estimate = hutchinson_divergence(signs)(field, x)
    torch.testing.assert_close(estimate, (signs[0].flatten() @ matrix @ signs[0].flatten()).expand(3))


def test_the_grid_is_even_in_log_snr_and_has_all_its_steps(linear: NoiseSchedule, cosine: NoiseSchedule) -> None:
    for schedule in (linear, cosine):
        for intervals in (1, 2, 50, 700, 999):
            grid = logsnr_grid(schedule, intervals)
            assert len(grid) == intervals + 1
            assert (grid[0], grid[-1]) == (0, 999)
            assert all(s > t for t, s in pairwise(grid))
    gaps = np.diff(linear.half_logsnr[logsnr_grid(linear, 10)])
    assert gaps.std() < 0.2 * abs(gaps.mean())
    for intervals in (0, 1000):
        with pytest.raises(ScheduleError, match="1 to 999 intervals"):
            logsnr_grid(linear, intervals)


def test_a_path_that_does_not_span_the_schedule_is_refused(linear: NoiseSchedule) -> None:
    for timesteps in ([0, 500], [1, 999], [0, 600, 500, 999], []):
        with pytest.raises(ScheduleError, match="ascend"):
            ode_log_density(mixture_model, mixture_points(1), linear, timesteps, exact_divergence)


def test_pixels_fill_their_bins_and_even_noise_costs_eight_bits() -> None:
    x_0 = torch.arange(256).view(1, 1, 16, 16) / 127.5 - 1
    x = torch.cat([dequantised(x_0, source(seed)) for seed in range(300)])
    assert float((x - x_0).abs().max()) <= 1 / 255 + 1e-6
    assert float((x - x_0).abs().max()) > 0.99 / 255
    assert float((x - x_0).mean()) == pytest.approx(0, abs=1e-4)
    width = 2 + 2 / 255  # of all 256 bins together
    assert density_bits(torch.tensor([-256 * math.log(width)]), 256).item() == pytest.approx(8.0, abs=1e-5)


def test_values_of_any_depth_fill_their_bins_and_even_noise_costs_their_bits() -> None:
    x_0 = torch.arange(4096, dtype=torch.float64).view(1, 1, 64, 64) * (2 / 4095) - 1
    x = torch.cat([dequantised(x_0, source(seed), 4096) for seed in range(30)])
    assert 0.99 / 4095 < float((x - x_0).abs().max()) <= 1 / 4095 + 1e-12
    width = 2 + 2 / 4095  # of all bins together
    assert density_bits(torch.tensor([-64 * math.log(width)]), 64, 4096).item() == pytest.approx(12.0, abs=1e-5)
