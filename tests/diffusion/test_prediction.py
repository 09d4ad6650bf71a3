from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from levels_of_steps import PREDICTIONS, at
from torch import Tensor

from ddpm_cli.diffusion.denoise import clamp, make_denoise, predictor
from ddpm_cli.diffusion.forward import q_sample
from ddpm_cli.diffusion.prediction import Eps, V, eps_from_x_0, estimated, v_from_x_0_eps, x_0_from_eps
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.errors import ScheduleError, ShapeError

KINDS = ("eps", "x0", "v")
T = torch.tensor([0, 1, 50, 500, 900, 999])


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.rand(6, 1, 4, 4, generator=generator, dtype=torch.float64) * 2 - 1
    return x_0, torch.randn(x_0.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_gives_image_and_noise_back(kind: str, images: tuple[Tensor, Tensor], linear: NoiseSchedule) -> None:
    x_0, eps = images
    x_t = q_sample(x_0, T, eps, linear)
    prediction, levels = PREDICTIONS[kind], at(linear, T, x_0)
    estimate = estimated(prediction, prediction.target(x_0, eps, levels), x_t, levels)
    torch.testing.assert_close(estimate.x0_hat, x_0, rtol=0, atol=1e-9)
    torch.testing.assert_close(estimate.eps_hat, eps, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("kind", "other"), list(permutations(KINDS, 2)))
def test_the_target_of_one_is_wrong_for_another(
    kind: str, other: str, images: tuple[Tensor, Tensor], linear: NoiseSchedule
) -> None:
    """PITFALL 7: a switch that does nothing would pass the round trip."""
    x_0, eps = images
    t = torch.full_like(T, 300)
    levels = at(linear, t, x_0)
    output = PREDICTIONS[kind].target(x_0, eps, levels)
    estimate = estimated(PREDICTIONS[other], output, q_sample(x_0, t, eps, linear), levels)
    assert (estimate.x0_hat - x_0).abs().mean() > 0.1
    assert (estimate.eps_hat - eps).abs().mean() > 0.1


def test_eps_to_x_0_to_v_to_eps(images: tuple[Tensor, Tensor], linear: NoiseSchedule) -> None:
    x_t, eps = images
    levels = at(linear, T, x_t)
    x_0 = x_0_from_eps(x_t, eps, levels)
    v = v_from_x_0_eps(x_0, eps, levels)
    back = V().estimate(v, x_t, levels)
    torch.testing.assert_close(back.eps_hat, eps, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(back.x0_hat, x_0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(eps_from_x_0(x_t, back.x0_hat, levels), eps, rtol=1e-9, atol=1e-9)


def test_v_equals_diffusers_get_velocity(images: tuple[Tensor, Tensor], linear: NoiseSchedule) -> None:
    from diffusers import DDPMScheduler

    x_0, eps = (image.float() for image in images)
    reference = DDPMScheduler(1000).get_velocity(x_0, eps, T)
    torch.testing.assert_close(V().target(x_0, eps, at(linear, T, x_0)), reference, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_clipping_derives_the_noise_anew(kind: str, linear: NoiseSchedule) -> None:
    """PITFALL 2: image and noise must still add up to x_t."""
    x_t = 3 * torch.randn(2, 1, 4, 4, dtype=torch.float64)
    level, steps = linear.at(400), torch.full((2,), 400)
    predict = predictor(lambda x, _: 0.9 * x, linear, PREDICTIONS[kind])
    x0_hat, eps_hat, _ = make_denoise(predict, linear, threshold=clamp)(x_t, level)
    unclipped = make_denoise(predict, linear, threshold=None)(x_t, level)
    assert (unclipped.x0_hat.abs() > 1).any()
    assert torch.equal(x0_hat, unclipped.x0_hat.clamp(-1, 1))
    torch.testing.assert_close(q_sample(x0_hat, steps, eps_hat, linear), x_t)
    assert not torch.allclose(eps_hat, unclipped.eps_hat)


def test_the_network_gets_one_int64_step_per_image(linear: NoiseSchedule) -> None:
    seen = []

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return x_t

    make_denoise(predictor(network, linear, Eps()), linear, threshold=clamp)(torch.zeros(3, 1, 2, 2), linear.at(17))
    assert seen[0].dtype == torch.int64
    assert seen[0].tolist() == [17, 17, 17]


def test_between_two_steps_the_network_gets_a_real_one(linear: NoiseSchedule) -> None:
    seen = []

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return x_t

    level = linear.level(17.75 / 1000)
    make_denoise(predictor(network, linear, Eps()), linear)(torch.zeros(3, 1, 2, 2), level)
    assert seen[0].dtype == torch.float32
    torch.testing.assert_close(seen[0], torch.full((3,), 16.75))


@pytest.mark.parametrize("kind", KINDS)
def test_a_half_precision_output_is_worked_on_in_float32(kind: str, linear: NoiseSchedule) -> None:
    x_t = torch.randn(2, 1, 2, 2)
    output = torch.randn(2, 1, 2, 2).bfloat16()
    t = torch.tensor([3, 900])
    levels = at(linear, t, x_t)
    estimate = estimated(PREDICTIONS[kind], output, x_t, levels)
    expected = estimated(PREDICTIONS[kind], output.float(), x_t, levels)
    assert estimate.x0_hat.dtype == estimate.eps_hat.dtype == torch.float32
    assert torch.equal(estimate.x0_hat, expected.x0_hat)
    assert torch.equal(estimate.eps_hat, expected.eps_hat)


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_is_float32_for_half_precision_images(kind: str, linear: NoiseSchedule) -> None:
    x_0 = torch.zeros(6, 1, 2, 2, dtype=torch.bfloat16)
    assert PREDICTIONS[kind].target(x_0, x_0, at(linear, T, x_0)).dtype == torch.float32


def test_eps_prediction_is_refused_under_zero_terminal_snr() -> None:
    """PITFALL 6."""
    schedule = NoiseSchedule.from_betas(np.array([0.1, 0.5, 1.0]))
    with pytest.raises(ScheduleError, match="zero terminal SNR") as caught:
        make_denoise(predictor(lambda x, _: x, schedule, Eps()), schedule, threshold=None)
    assert '"v"' in caught.value.remedy
    for kind in ("x0", "v"):
        x0_hat, eps_hat, _ = make_denoise(predictor(lambda x, _: x, schedule, PREDICTIONS[kind]), schedule, threshold=clamp)(
            torch.ones(1, 1, 2, 2), schedule.at(2)
        )
        assert x0_hat.isfinite().all()
        assert eps_hat.isfinite().all()


def test_a_network_with_the_wrong_number_of_channels_is_refused(linear: NoiseSchedule) -> None:
    with pytest.raises(ShapeError, match="output"):
        make_denoise(predictor(lambda x, _: x[:, :1], linear, Eps()), linear, threshold=clamp)(
            torch.zeros(2, 3, 4, 4), linear.at(5)
        )


def test_a_network_that_predicts_eps_can_be_told_the_noise_itself(linear: NoiseSchedule) -> None:
    x_t = torch.randn(6, 1, 4, 4)
    levels = at(linear, T, x_t)
    assert torch.equal(Eps().network_input(x_t, levels)[1], levels.step)
    told = Eps("log-sigma").network_input(x_t, levels)[1]
    torch.testing.assert_close(told, (levels.sigma / levels.alpha).log().flatten(), rtol=1e-5, atol=1e-5)
