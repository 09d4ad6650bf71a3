"""Guidance by a weaker model: what it computes, at which levels, and what the guide sees where its schedule is another."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ddpm_cli.diffusion.denoise import predictor
from ddpm_cli.diffusion.forward import Levels
from ddpm_cli.diffusion.guidance import guided, guided_by, reaches
from ddpm_cli.diffusion.prediction import Eps, V
from ddpm_cli.diffusion.schedules import NoiseSchedule, cosine_betas


def better(x_t: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
    return torch.sin(x_t) + t[:, None, None, None] / 1000


def weaker(x_t: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
    return 0.8 * torch.sin(x_t) + 0.1


def batch(schedule: NoiseSchedule, t: int = 400) -> tuple[Tensor, Levels]:
    x_t = torch.randn(3, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(t))
    return x_t, Levels.all_at(schedule.at(t), t, x_t)


def test_scale_1_is_the_model_alone_bit_for_bit_and_asks_no_guide(linear: NoiseSchedule) -> None:
    predict = predictor(better, linear, V())
    assert guided_by(predict, predictor(weaker, linear, V()), scale=1.0) is predict


@pytest.mark.parametrize("scale", [0.0, 1.5, 3.0])
def test_it_goes_from_the_guide_through_the_model(linear: NoiseSchedule, scale: float) -> None:
    """Karras et al. 2024, Eq. 3: D = scale * D_1 + (1 - scale) * D_0."""
    x_t, at = batch(linear)
    predict, guide = predictor(better, linear, V()), predictor(weaker, linear, V())
    own, other = predict(x_t, at, None), guide(x_t, at, None)
    result = guided_by(predict, guide, scale=scale)(x_t, at, None)
    torch.testing.assert_close(result.x0_hat, scale * own.x0_hat + (1 - scale) * other.x0_hat, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(at.alpha * result.x0_hat + at.sigma * result.eps_hat, x_t, rtol=1e-10, atol=1e-10)


def test_the_guide_may_predict_something_else(linear: NoiseSchedule) -> None:
    x_t, at = batch(linear)
    v, eps = predictor(weaker, linear, V())(x_t, at, None), None
    sigma_x, alpha_v = at.sigma * x_t, at.alpha * weaker(x_t, at.step)
    eps = predictor(lambda *_: sigma_x + alpha_v, linear, Eps())
    predict = predictor(better, linear, V())
    result, same = (guided_by(predict, guide, scale=2.0)(x_t, at, None) for guide in (eps, lambda *_: v))
    torch.testing.assert_close(result.x0_hat, same.x0_hat, rtol=1e-9, atol=1e-9)


def test_it_comes_after_guidance_by_class(linear: NoiseSchedule) -> None:
    def by_class(x_t: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
        return torch.sin(x_t) + labels[0][:, None, None, None]

    x_t, at = batch(linear)
    labels = torch.tensor([0, 2, 1])
    following = guided(predictor(by_class, linear, V()), 3, scale=2.0)
    guide = predictor(lambda x_t, t, *labels: 0.5 * by_class(x_t, t, *labels), linear, V())
    own, other = following(x_t, at, labels), guide(x_t, at, labels)
    result = guided_by(following, guide, scale=1.5)(x_t, at, labels)
    torch.testing.assert_close(result.x0_hat, 1.5 * own.x0_hat - 0.5 * other.x0_hat, rtol=1e-12, atol=1e-12)


def test_outside_of_its_interval_the_model_is_alone(linear: NoiseSchedule) -> None:
    interval = (float(linear.sigmas[200]), float(linear.sigmas[500]))
    predict = predictor(better, linear, V())
    for t in (0, 200, 201, 500, 501, 999):
        x_t, at = batch(linear, t)
        result = guided_by(predict, predictor(weaker, linear, V()), scale=2.0, interval=interval)(x_t, at, None)
        assert torch.equal(result.x0_hat, predict(x_t, at, None).x0_hat) == (not 200 < t <= 500)


def test_a_guide_of_another_schedule_is_told_the_step_of_the_same_level(linear: NoiseSchedule) -> None:
    cosine = NoiseSchedule.from_betas(cosine_betas(500))
    seen: list[tuple[Tensor, float]] = []

    def recording(x_t: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
        seen.append((x_t, float(t[0])))
        return torch.zeros_like(x_t)

    predict = predictor(better, linear, V())
    for t in (5, 400, 900):
        x_t, at = batch(linear, t)
        guided_by(predict, predictor(recording, cosine, V()), scale=2.0, schedule=cosine)(x_t, at, None)
        told = cosine.level((seen[-1][1] + 1) / 500)
        assert told.ratio == pytest.approx(linear.at(t).ratio, rel=1e-4)
        assert told.alpha == pytest.approx(linear.at(t).alpha, rel=1e-4)
        assert torch.equal(seen[-1][0], x_t)


def test_where_its_schedule_does_not_reach_the_model_is_alone(linear: NoiseSchedule) -> None:
    """The cosine schedule goes on to a hundred times the noise at which the linear one ends."""
    cosine = NoiseSchedule.from_betas(cosine_betas(1000))
    predict, guide = predictor(better, cosine, V()), predictor(weaker, linear, V())
    for t in (500, 999):
        x_t, at = batch(cosine, t)
        result = guided_by(predict, guide, scale=2.0, schedule=linear)(x_t, at, None)
        assert torch.equal(result.x0_hat, predict(x_t, at, None).x0_hat) == (t == 999)
    assert reaches(linear, linear.at(0))
    assert reaches(linear, linear.at(999))
    assert not reaches(linear, cosine.at(999))
