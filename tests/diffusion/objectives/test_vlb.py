"""The bound's terms against numerical integration and scipy."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch import Tensor

from ddpm_cli.diffusion.objectives.vlb import (
    discretized_gaussian_log_likelihood,
    gaussian_kl,
    model_log_variance,
    prior_term,
    vlb_term,
)
from ddpm_cli.diffusion.prediction import Denoised
from ddpm_cli.diffusion.schedules import NoiseSchedule, make_beta_schedule
from ddpm_cli.diffusion.variances import ModelVariance
from ddpm_cli.errors import ConfigError

VARIANCES: tuple[ModelVariance, ...] = get_args(ModelVariance)
PIXELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1.0
LN2 = np.log(2.0)


def pixel(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


@pytest.mark.parametrize(("mean", "std", "other_mean", "other_std"), [(0.3, 0.5, -0.2, 0.9), (0.0, 1.2, 0.1, 0.4), (1, 2, 1, 2)])
def test_kl_is_the_integral(mean: float, std: float, other_mean: float, other_std: float) -> None:
    p, q = stats.norm(mean, std), stats.norm(other_mean, other_std)
    expected, _ = integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), mean - 12 * std, mean + 12 * std)
    values = [torch.tensor(v, dtype=torch.float64) for v in (mean, 2 * np.log(std), other_mean, 2 * np.log(other_std))]
    assert gaussian_kl(*values).item() == pytest.approx(expected, abs=1e-9)


def test_kl_of_nearly_equal_variances_keeps_its_digits_in_float32() -> None:
    """With d = 1e-3 in the log variance, KL = d**2 / 4 - ...; exp(d) - 1 - d would round to a third of its digits."""
    zero = torch.zeros(())
    exact = gaussian_kl(zero.double(), torch.tensor(1e-3, dtype=torch.float64), zero.double(), zero.double())
    assert gaussian_kl(zero, torch.tensor(1e-3), zero, zero).item() == pytest.approx(exact.item(), rel=1e-3)


@pytest.mark.parametrize(("mean", "std"), [(0.2, 0.1), (-0.95, 0.02), (1.4, 0.3), (0.0, 0.001)])
def test_pixel_probabilities_are_differences_of_scipys_cdf_and_add_up_to_one(mean: float, std: float) -> None:
    log_p = discretized_gaussian_log_likelihood(PIXELS, torch.full_like(PIXELS, mean), torch.tensor(2 * np.log(std)).double())
    edges = np.concatenate([[-np.inf], (PIXELS[:-1].numpy() + PIXELS[1:].numpy()) / 2, [np.inf]])
    expected = np.diff(stats.norm(mean, std).cdf(edges))
    np.testing.assert_allclose(log_p.exp().numpy(), expected, atol=1e-12)
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("mean", [-0.9, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_tails_are_exact_and_have_gradients(mean: float, dtype: torch.dtype) -> None:
    """The pixel 0 is 90 deviations away on either side; a difference of cdfs would be log(0)."""
    std = 0.01
    centre = torch.tensor(mean, dtype=dtype, requires_grad=True)
    log_variance = torch.tensor(2 * np.log(std), dtype=dtype, requires_grad=True)
    x = torch.zeros((), dtype=dtype)
    log_p = discretized_gaussian_log_likelihood(x, centre, log_variance)
    ends = special.log_ndtr((np.array([1, -1]) / 255 - abs(mean)) / std)
    assert log_p.item() == pytest.approx(
        ends[0] + np.log1p(-np.exp(ends[1] - ends[0])), rel=1e-4 if dtype == torch.float32 else 1e-12
    )
    log_p.backward()
    assert centre.grad is not None
    assert log_variance.grad is not None
    assert centre.grad.item() == pytest.approx(-np.sign(mean) * 0.9 / std**2, rel=0.05)
    assert log_variance.grad.isfinite()


@pytest.mark.parametrize("std", [1e-4, 1e-2, 1.0])
def test_every_pixel_has_finite_gradients_in_float32(std: float) -> None:
    means = torch.linspace(-3, 3, 61).repeat(256, 1).requires_grad_()
    log_variance = torch.full_like(means, float(2 * np.log(std)), requires_grad=True)
    log_p = discretized_gaussian_log_likelihood(PIXELS.float()[:, None].expand_as(means), means, log_variance)
    log_p.sum().backward()
    assert means.grad is not None
    assert log_variance.grad is not None
    assert log_p.isfinite().all()
    assert means.grad.isfinite().all()
    assert log_variance.grad.isfinite().all()


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("t", [1, 7, 19])
def test_a_step_is_the_kl_of_bayes_rule_to_the_model_by_integration(variance: ModelVariance, t: int) -> None:
    schedule = NoiseSchedule.from_betas(make_beta_schedule("cosine", 20))
    x_0, x_t, x0_hat, fraction = 127 / 127.5 - 1.0, 0.4, 0.15, 0.3
    alpha, abar_s = schedule.alphas[t], schedule.alphas_cumprod[t - 1]

    def q(x: np.ndarray) -> np.ndarray:
        product = stats.norm(alpha**0.5 * x, (1 - alpha) ** 0.5).pdf(x_t) * stats.norm(abar_s**0.5 * x_0, (1 - abar_s) ** 0.5).pdf(
            x
        )
        return product / np.trapezoid(product, x)

    small = schedule.betas[t] * (1 - abar_s) / (1 - schedule.alphas_cumprod[t])
    std = {
        "fixed-small": small**0.5,
        "fixed-large": schedule.betas[t] ** 0.5,
        "learned-range": np.exp(0.5 * (fraction * np.log(schedule.betas[t]) + (1 - fraction) * np.log(small))),
    }[variance]
    mean = abar_s**0.5 * schedule.betas[t] / (1 - schedule.alphas_cumprod[t]) * x0_hat
    mean += alpha**0.5 * (1 - abar_s) / (1 - schedule.alphas_cumprod[t]) * x_t
    grid = np.linspace(-10, 10, 400_001)
    density = q(grid)
    kept = density > 1e-300
    integrand = np.zeros_like(grid)
    integrand[kept] = density[kept] * (np.log(density[kept]) - stats.norm(mean, std).logpdf(grid[kept]))
    expected = np.trapezoid(integrand, grid) / LN2

    estimate = Denoised(pixel(x0_hat), pixel(0.0), pixel(fraction))
    term = vlb_term(estimate, pixel(x_0), pixel(x_t), torch.tensor([t]), schedule, variance)
    assert term.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("level", [0, 100, 255])
def test_the_decoder_is_the_integral_over_the_pixels_bin(variance: ModelVariance, level: int) -> None:
    schedule = NoiseSchedule.from_betas(make_beta_schedule("linear", 1000))
    x_0, x0_hat = float(PIXELS[level]), 0.97 * float(PIXELS[level])
    small, large = schedule.posterior_variance[1], schedule.betas[0]
    std = {"fixed-small": small, "fixed-large": small, "learned-range": (small * large) ** 0.5}[variance] ** 0.5
    low = -np.inf if level == 0 else x_0 - 1 / 255
    high = np.inf if level == 255 else x_0 + 1 / 255
    p = stats.norm(x0_hat, std)  # at t = 0 the mean is x0_hat alone
    mass = integrate.quad(p.pdf, max(low, x0_hat - 30 * std), min(high, x0_hat + 30 * std), points=[x0_hat], epsabs=1e-13)[0]
    estimate = Denoised(pixel(x0_hat), pixel(0.0), pixel(0.5))
    term = vlb_term(estimate, pixel(x_0), pixel(0.3), torch.tensor([0]), schedule, variance)
    assert term.item() == pytest.approx(-np.log2(mass), rel=1e-6)


def test_the_prior_is_the_kl_to_a_standard_normal(linear: NoiseSchedule) -> None:
    abar = linear.alphas_cumprod[-1]
    p = stats.norm(abar**0.5 * 0.8, (1 - abar) ** 0.5)
    expected, _ = integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - stats.norm.logpdf(x)), -12, 12)
    assert prior_term(pixel(0.8), linear).item() == pytest.approx(expected / LN2, rel=1e-4)
    half = NoiseSchedule.from_betas(np.array([0.1, 0.2]))
    p = stats.norm(half.alphas_cumprod[-1] ** 0.5 * 0.8, (1 - half.alphas_cumprod[-1]) ** 0.5)
    expected, _ = integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - stats.norm.logpdf(x)), -12, 12)
    assert prior_term(pixel(0.8), half).item() == pytest.approx(expected / LN2, rel=1e-9)


def test_terms_are_means_over_the_dimensions_of_each_image(linear: NoiseSchedule) -> None:
    t = torch.tensor([0, 500])
    x_0 = PIXELS[torch.randint(256, (2, 3, 4, 4))]
    x_t, x0_hat = torch.randn_like(x_0), torch.rand_like(x_0)
    whole = vlb_term(Denoised(x0_hat, x0_hat), x_0, x_t, t, linear, "fixed-small")
    for image in range(2):
        single = [x.permute(2, 3, 1, 0)[..., image].reshape(48, 1, 1, 1) for x in (x_0, x_t, x0_hat)]
        steps = t[image].expand(48)
        parts = vlb_term(Denoised(single[2], single[2]), single[0], single[1], steps, linear, "fixed-small")
        assert whole[image].item() == pytest.approx(parts.mean().item(), rel=1e-12)


@pytest.mark.parametrize("kind", ["linear", "cosine", "sigmoid"])
def test_the_learned_range_goes_from_beta_tilde_to_beta_and_stays_finite_at_0(kind: str) -> None:
    """PITFALL 3: at t = 0 the lower end is beta-tilde's value at t = 1, not log(1e-20)."""
    schedule = NoiseSchedule.from_betas(make_beta_schedule(kind, 1000))
    t = torch.arange(1000)
    zero = torch.zeros(1000, 1, 1, 1, dtype=torch.float64)
    ends = [model_log_variance("learned-range", Denoised(zero, zero, zero + f), t, schedule).flatten().numpy() for f in (0, 1)]
    beta_tilde = np.concatenate([schedule.posterior_variance[1:2], schedule.posterior_variance[1:]])
    np.testing.assert_allclose(ends[0], np.log(beta_tilde), rtol=1e-12)
    np.testing.assert_allclose(ends[1], np.log(schedule.betas), rtol=1e-12)
    assert ends[0].min() > np.log(1e-6)
    large = model_log_variance("fixed-large", Denoised(zero, zero), t, schedule).flatten().numpy()
    np.testing.assert_allclose(large[1:], np.log(schedule.betas[1:]), rtol=1e-12)
    assert large[0] == pytest.approx(np.log(beta_tilde[0]))


def test_a_variance_that_was_not_learned_is_refused(linear: NoiseSchedule) -> None:
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ConfigError, match="did not learn"):
        vlb_term(Denoised(x, x), x, x, torch.tensor([3]), linear, "learned-range")


def grid_of(levels: int) -> Tensor:
    return torch.arange(levels, dtype=torch.float64) * (2.0 / (levels - 1)) - 1.0


@pytest.mark.parametrize("levels", [2, 1201, 4096, 65536])
@pytest.mark.parametrize(("mean", "std"), [(0.2, 0.1), (-0.95, 0.02), (1.4, 0.3), (0.0, 0.001)])
def test_any_number_of_levels_shares_out_the_probability_as_scipy_does(levels: int, mean: float, std: float) -> None:
    x = grid_of(levels)
    log_p = discretized_gaussian_log_likelihood(x, torch.full_like(x, mean), torch.tensor(2 * np.log(std)).double(), levels)
    edges = np.concatenate([[-np.inf], (x[:-1].numpy() + x[1:].numpy()) / 2, [np.inf]])
    # An independent way: differences of the upper tail above the mean, of the lower one below it, where neither rounds to 1.
    lower, upper = stats.norm(mean, std).cdf(edges), stats.norm(mean, std).sf(edges)
    expected = np.where(edges[:-1] > mean, upper[:-1] - upper[1:], np.diff(lower))
    np.testing.assert_allclose(log_p.exp().numpy(), expected, rtol=1e-9, atol=1e-14)
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-11)


@pytest.mark.parametrize("levels", [4096, 65536])
def test_narrow_bins_keep_their_digits_in_float32(levels: int) -> None:
    """Near 1 float32 is spaced by 6e-8, and the bins of 16 bits are 3e-5 wide: edges taken one by one would be off by 0.004."""
    x = grid_of(levels)[-200:-1]
    mean, log_variance = torch.full_like(x, 0.995), torch.tensor(2 * np.log(7e-3)).double()
    exact = discretized_gaussian_log_likelihood(x, mean, log_variance, levels)
    found = discretized_gaussian_log_likelihood(x.float(), mean.float(), log_variance.float(), levels)
    assert float((found.double() - exact).abs().max()) < 1e-3


def test_256_levels_are_the_formula_of_before_to_the_bit() -> None:
    x, mean = PIXELS.float(), torch.linspace(-1.3, 1.3, 256)
    log_variance = torch.linspace(-9, 0, 256)
    inverse_std = torch.exp(-0.5 * log_variance)
    above, below = (x + 1.0 / 255.0 - mean) * inverse_std, (x - 1.0 / 255.0 - mean) * inverse_std
    mirror = above + below > 0
    upper, lower = (torch.special.log_ndtr(torch.where(mirror, *pair)) for pair in ((-below, above), (-above, below)))
    between = upper + torch.log(-torch.expm1(-(upper - lower).clamp_min(torch.finfo(x.dtype).tiny)))
    found = discretized_gaussian_log_likelihood(x, mean, log_variance, 256)
    assert torch.equal(found[1:-1], between[1:-1])
    assert torch.equal(found, discretized_gaussian_log_likelihood(x, mean, log_variance))
    assert torch.equal(found[[0, -1]], torch.special.log_ndtr(torch.stack([above[0], -below[-1]])))


def test_a_step_at_zero_takes_the_levels(linear: NoiseSchedule) -> None:
    """Sixteen times as many values are four bits more for the same error; mean of a pixel and its estimate half a deviation off."""
    estimate = Denoised(pixel(0.1), pixel(0.0))
    t = torch.tensor([0])
    terms = [vlb_term(estimate, pixel(0.1), pixel(0.1), t, linear, "fixed-large", levels) for levels in (4096, 65536)]
    assert float(terms[1] - terms[0]) == pytest.approx(np.log2(65535 / 4095), abs=1e-3)
