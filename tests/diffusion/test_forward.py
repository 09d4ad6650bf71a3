from __future__ import annotations

import numpy as np
import pytest
import torch

from ddpm_cli.diffusion.forward import extract, q_posterior, q_sample
from ddpm_cli.diffusion.schedules import NoiseSchedule, make_beta_schedule
from ddpm_cli.errors import ShapeError

SHAPE = (3, 2, 4, 4)
T_ALL = torch.arange(1000)


def test_q_sample_equals_diffusers_add_noise(linear: NoiseSchedule) -> None:
    from diffusers import DDPMScheduler

    x_0, eps, t = torch.randn(SHAPE), torch.randn(SHAPE), torch.tensor([0, 500, 999])
    reference = DDPMScheduler(1000).add_noise(x_0, eps, t)
    # Not tighter: their tables are float32, which costs three digits of 1 - abar at t = 0.
    torch.testing.assert_close(q_sample(x_0, t, eps, linear), reference, rtol=0, atol=1e-4)


def test_float32_tables_are_float64_tables_rounded_once(linear: NoiseSchedule) -> None:
    table = extract(linear, "sqrt_one_minus_alphas_cumprod", T_ALL, torch.zeros(1000))
    assert table.dtype == torch.float32
    exact = np.sqrt(1.0 - linear.alphas_cumprod)
    assert np.abs(table.double().numpy() / exact - 1.0).max() < 1e-7


def test_float64_images_get_float64_tables(linear: NoiseSchedule) -> None:
    x = torch.zeros(1000, 1, 1, 1, dtype=torch.float64)
    table = extract(linear, "alphas_cumprod", T_ALL, x)
    assert table.shape == (1000, 1, 1, 1)
    np.testing.assert_array_equal(table.flatten().numpy(), linear.alphas_cumprod)


def test_half_precision_images_still_get_noise_at_every_step(linear: NoiseSchedule) -> None:
    """PITFALL 5: with bfloat16 tables the noise is exactly 0 at ten steps."""
    x_0 = torch.zeros(1000, 1, dtype=torch.bfloat16)
    x_t = q_sample(x_0, T_ALL, torch.ones_like(x_0), linear)
    assert x_t.dtype == torch.bfloat16
    exact = torch.from_numpy(linear.sqrt_one_minus_alphas_cumprod)[:, None]
    assert ((x_t.double() / exact - 1).abs() < 2**-8).all()


def test_half_precision_images_are_noised_in_float32_and_rounded_once(linear: NoiseSchedule) -> None:
    x_0, eps, t = torch.randn(SHAPE).bfloat16(), torch.randn(SHAPE).bfloat16(), torch.tensor([0, 7, 999])
    assert extract(linear, "betas", t, x_0).dtype == torch.float32
    assert torch.equal(q_sample(x_0, t, eps, linear), q_sample(x_0.float(), t, eps.float(), linear).bfloat16())


def test_autocast_does_not_reach_q_sample(linear: NoiseSchedule) -> None:
    x_0, eps, t = torch.randn(SHAPE), torch.randn(SHAPE), torch.tensor([0, 7, 999])
    expected = q_sample(x_0, t, eps, linear)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = q_sample(x_0, t, eps, linear)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, expected)


def test_a_table_first_used_in_inference_mode_can_be_trained_with() -> None:
    schedule = NoiseSchedule.from_betas(make_beta_schedule("linear", 10))
    t, eps = torch.tensor([3]), torch.randn(1, 1, 2, 2)
    with torch.inference_mode():
        q_sample(torch.zeros_like(eps), t, eps, schedule)
    x_0 = torch.randn(1, 1, 2, 2, requires_grad=True)
    q_sample(x_0, t, eps, schedule).square().sum().backward()
    assert x_0.grad is not None


def gauss(x: np.ndarray, mean: float, variance: float) -> np.ndarray:
    return np.exp(-0.5 * (x - mean) ** 2 / variance) / np.sqrt(2 * np.pi * variance)


@pytest.mark.parametrize("t", [1, 2, 100, 500, 999])
def test_q_posterior_is_bayes_rule_by_numerical_integration(t: int, linear: NoiseSchedule) -> None:
    x_0 = 0.7
    x_t = np.sqrt(linear.alphas_cumprod[t]) * x_0 - 1.5 * np.sqrt(1 - linear.alphas_cumprod[t])
    x_s = np.linspace(-10, 10, 2_000_001)
    beta, abar_s = linear.betas[t], linear.alphas_cumprod[t - 1]
    joint = gauss(x_t - np.sqrt(1 - beta) * x_s, 0.0, beta) * gauss(x_s, np.sqrt(abar_s) * x_0, 1 - abar_s)
    weights = joint / joint.sum()
    mean = (weights * x_s).sum()
    variance = (weights * (x_s - mean) ** 2).sum()

    def image(value: float) -> torch.Tensor:
        return torch.full((1, 1, 1, 1), value, dtype=torch.float64)

    ours = q_posterior(image(x_0), image(x_t), torch.tensor([t]), linear)
    assert ours[0].item() == pytest.approx(mean, abs=1e-9)
    assert ours[1].item() == pytest.approx(variance, rel=1e-9)
    assert ours[2].item() == pytest.approx(np.log(variance), abs=1e-9)


def test_q_posterior_at_the_first_step_is_x_0_itself(linear: NoiseSchedule) -> None:
    x_0, x_t = torch.randn(SHAPE, dtype=torch.float64), torch.randn(SHAPE, dtype=torch.float64)
    mean, variance, log_variance = q_posterior(x_0, x_t, torch.zeros(3, dtype=torch.int64), linear)
    torch.testing.assert_close(mean, x_0)
    assert (variance == 0).all()
    assert variance.shape == (3, 1, 1, 1)
    torch.testing.assert_close(log_variance.exp()[0].item(), linear.posterior_variance[1])


def test_each_image_has_its_own_step(linear: NoiseSchedule) -> None:
    x_0, eps, t = torch.randn(SHAPE), torch.randn(SHAPE), torch.tensor([0, 500, 999])
    together = q_sample(x_0, t, eps, linear)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], q_sample(x_0[i : i + 1], t[i : i + 1], eps[i : i + 1], linear))


def test_tensors_that_would_only_broadcast_are_refused(linear: NoiseSchedule) -> None:
    x, t = torch.zeros(SHAPE), torch.tensor([0, 1, 2])
    with pytest.raises(ShapeError, match="eps"):
        q_sample(x, t, torch.zeros(1, 2, 4, 4), linear)
    with pytest.raises(ShapeError, match="t must"):
        q_sample(x, torch.tensor([3]), x, linear)
    with pytest.raises(ShapeError, match="x_t"):
        q_posterior(x, torch.zeros(3, 1, 4, 4), t, linear)
