from __future__ import annotations

import pytest
import torch

from ddpm_cli.diffusion.denoise import clamp, make_denoise, predictor
from ddpm_cli.diffusion.forward import q_sample
from ddpm_cli.diffusion.prediction import X0
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.diffusion.thresholding import dynamic_threshold


def test_an_image_in_range_is_left_alone() -> None:
    x = torch.rand(3, 2, 5, 5) * 2 - 1
    assert torch.equal(dynamic_threshold()(x), x)


def test_each_image_is_scaled_by_its_own_quantile() -> None:
    x = torch.linspace(-4, 4, 101).view(1, 1, 1, 101).repeat(2, 1, 1, 1) * torch.tensor([1.0, 0.1]).view(2, 1, 1, 1)
    out = dynamic_threshold(0.5)(x)
    torch.testing.assert_close(out[0], (x[0] / 2).clamp(-1, 1))
    assert torch.equal(out[1], x[1])
    torch.testing.assert_close(dynamic_threshold(1.0)(x)[0], x[0] / 4)


@pytest.mark.parametrize("quantile", [0.1, 0.7, 0.995])
def test_the_quantile_is_that_of_torch(quantile: float) -> None:
    x = 5 * torch.randn(4, 1, 7, 3)
    scale = x.abs().flatten(1).quantile(quantile, dim=1).clamp(min=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(dynamic_threshold(quantile)(x), x.clamp(-scale, scale) / scale)


def test_the_denoiser_derives_eps_anew(linear: NoiseSchedule) -> None:
    x_t = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    predict = predictor(lambda x, t: 3 * x, linear, X0())
    t = torch.full((2,), 300)
    x0_hat, eps_hat, _ = make_denoise(predict, linear, threshold=dynamic_threshold(0.8))(x_t, linear.at(300))
    assert x0_hat.abs().max() <= 1
    assert not torch.allclose(x0_hat, clamp(3 * x_t))
    torch.testing.assert_close(q_sample(x0_hat, t, eps_hat, linear), x_t)
