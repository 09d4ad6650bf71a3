from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from levels_of_steps import PREDICTIONS
from torch import Tensor

from ddpm_cli.diffusion.denoise import make_denoise, predictor
from ddpm_cli.diffusion.forward import Levels
from ddpm_cli.diffusion.guidance import drop_labels, guided, rescale_guided, with_labels
from ddpm_cli.diffusion.prediction import X0, Denoised, Eps, V
from ddpm_cli.diffusion.schedules import NoiseSchedule

NULL = 3


class Recorder:
    """A network that differs by class, image and step, and remembers what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[int]]] = []

    def __call__(self, x_t: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
        self.calls.append((len(x_t), labels[0].tolist()))
        shift = labels[0][:, None, None, None].to(x_t.dtype)
        return torch.sin(x_t * (1 + shift)) + shift + t[:, None, None, None] / 1000


def batch(schedule: NoiseSchedule) -> tuple[Tensor, Levels, Tensor]:
    x_t = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    return x_t, Levels.all_at(schedule.at(400), 400, x_t), torch.tensor([0, 2, 1])


def test_scale_1_is_conditional_and_scale_0_unconditional_bit_for_bit(linear: NoiseSchedule) -> None:
    x_t, t, labels = batch(linear)
    predict = predictor(Recorder(), linear, V())
    for scale, wanted in ((1.0, labels), (0.0, torch.full_like(labels, NULL))):
        result, expected = guided(predict, NULL, scale=scale)(x_t, t, labels), predict(x_t, t, wanted)
        assert torch.equal(result.x0_hat, expected.x0_hat)
        assert torch.equal(result.eps_hat, expected.eps_hat)
    assert not torch.equal(predict(x_t, t, labels).x0_hat, predict(x_t, t, torch.full_like(labels, NULL)).x0_hat)


@pytest.mark.parametrize(("scale", "calls"), [(0.0, [3]), (1.0, [3]), (1.5, [6]), (7.0, [6]), (0.5, [6])])
def test_one_network_call_for_each_step(linear: NoiseSchedule, scale: float, calls: list[int]) -> None:
    network = Recorder()
    x_t, t, labels = batch(linear)
    guided(predictor(network, linear, Eps()), NULL, scale=scale, rescale=0.3)(x_t, t, labels)
    assert [size for size, _ in network.calls] == calls
    if scale not in (0.0, 1.0):
        assert network.calls[0][1] == [0, 2, 1, NULL, NULL, NULL]


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_guidance_extrapolates_the_network_output(linear: NoiseSchedule, kind: Any) -> None:
    """Guiding estimates of the image and the noise is what the paper does with the output, Eq. 6 with w = scale - 1."""
    network, scale = Recorder(), 2.5
    x_t, t, labels = batch(linear)
    conditional, unconditional = network(x_t, t.step, labels), network(x_t, t.step, torch.full_like(labels, NULL))
    w = scale - 1
    output = (1 + w) * conditional - w * unconditional
    expected = predictor(lambda *_: output, linear, PREDICTIONS[kind])(x_t, t, None)
    result = guided(predictor(network, linear, PREDICTIONS[kind]), NULL, scale=scale)(x_t, t, labels)
    torch.testing.assert_close(result.x0_hat, expected.x0_hat, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(result.eps_hat, expected.eps_hat, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rescale", [0.0, 0.7, 1.0])
def test_estimates_still_make_up_x_t(linear: NoiseSchedule, rescale: float) -> None:
    x_t, t, labels = batch(linear)
    result = guided(predictor(Recorder(), linear, V()), NULL, scale=3.0, rescale=rescale)(x_t, t, labels)
    abar = linear.alphas_cumprod[400]
    torch.testing.assert_close(math.sqrt(abar) * result.x0_hat + math.sqrt(1 - abar) * result.eps_hat, x_t, rtol=1e-10, atol=1e-10)


def test_interval_takes_its_upper_end_and_not_its_lower(linear: NoiseSchedule) -> None:
    low, high = 200, 500
    interval = (float(linear.sigmas[low]), float(linear.sigmas[high]))
    labels = torch.tensor([0, 2, 1])
    for t in (0, low - 1, low, low + 1, 350, high - 1, high, high + 1, 999):
        network = Recorder()
        predict = predictor(network, linear, V())
        x_t = torch.randn(3, 1, 2, 2, dtype=torch.float64)
        at = Levels.all_at(linear.at(t), t, x_t)
        result = guided(predict, NULL, scale=4.0, interval=interval)(x_t, at, labels)
        inside = low < t <= high
        assert [size for size, _ in network.calls] == [6 if inside else 3], t
        assert torch.equal(result.x0_hat, predict(x_t, at, labels).x0_hat) == (not inside)


def test_without_guidance_the_interval_is_conditional_everywhere_else(linear: NoiseSchedule) -> None:
    """Scale 0 within an interval: unconditional inside, conditional outside."""
    x_t, _, labels = batch(linear)
    predict = predictor(Recorder(), linear, V())
    within = guided(predict, NULL, scale=0.0, interval=(float(linear.sigmas[500]), 1e9))
    for t, wanted in ((400, labels), (600, torch.full_like(labels, NULL))):
        at = Levels.all_at(linear.at(t), t, x_t)
        assert torch.equal(within(x_t, at, labels).x0_hat, predict(x_t, at, wanted).x0_hat)


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_rescaling_against_numpy(share: float) -> None:
    """Lin et al. 2024, Eq. 15 and 16, with the sample deviation that their listing has: a ratio does not see the difference."""
    conditional, result = torch.randn(4, 3, 5, 5, dtype=torch.float64), 3 * torch.randn(4, 3, 5, 5, dtype=torch.float64) + 1
    expected = []
    for positive, cfg in zip(conditional.numpy(), result.numpy(), strict=True):
        rescaled = cfg * (np.std(positive, ddof=1) / np.std(cfg, ddof=1))
        expected.append(share * rescaled + (1 - share) * cfg)
    np.testing.assert_allclose(rescale_guided(result, conditional, share).numpy(), np.stack(expected), rtol=1e-12)


def test_guided_image_has_the_conditional_one_s_contrast(linear: NoiseSchedule) -> None:
    x_t, t, labels = batch(linear)
    predict = predictor(Recorder(), linear, V())
    spread = {
        rescale: guided(predict, NULL, scale=5.0, rescale=rescale)(x_t, t, labels).x0_hat.std((1, 2, 3)) for rescale in (0.0, 1.0)
    }
    target = predict(x_t, t, labels).x0_hat.std((1, 2, 3))
    torch.testing.assert_close(spread[1.0], target, rtol=1e-10, atol=1e-10)
    assert (spread[0.0] - target).abs().min() > 0.01


def test_rescaling_a_flat_image_stays_finite() -> None:
    assert rescale_guided(torch.zeros(2, 1, 4, 4), torch.randn(2, 1, 4, 4), 1.0).isfinite().all()
    assert rescale_guided(torch.ones(2, 1, 1, 1), torch.ones(2, 1, 1, 1), 0.5).isfinite().all()


def test_the_learned_variance_is_the_conditional_one_s(linear: NoiseSchedule) -> None:
    x_t, t, labels = batch(linear)

    def predict(x_t: Tensor, t: Levels, labels: Tensor | None) -> Denoised:
        assert labels is not None
        return Denoised(x_t, x_t, labels[:, None, None, None].expand_as(x_t) / NULL)

    fraction = guided(predict, NULL, scale=3.0)(x_t, t, labels).variance_fraction
    assert fraction is not None
    assert torch.equal(fraction[:, 0, 0, 0], labels / NULL)


def test_thresholding_comes_after_guidance(linear: NoiseSchedule) -> None:
    x_t, t, labels = batch(linear)
    predict = guided(predictor(Recorder(), linear, X0()), NULL, scale=5.0)
    unclipped = predict(x_t, t, labels).x0_hat
    assert unclipped.abs().max() > 1
    assert torch.equal(make_denoise(predict, linear, labels=labels)(x_t, linear.at(400)).x0_hat, unclipped.clamp(-1, 1))


def test_guidance_without_labels_is_a_mistake(linear: NoiseSchedule) -> None:
    x_t, t, _ = batch(linear)
    with pytest.raises(ValueError, match="needs labels"):
        guided(predictor(Recorder(), linear, V()), NULL)(x_t, t, None)


def test_two_gaussian_classes_in_closed_form(cosine: NoiseSchedule) -> None:
    """The guided score is the gradient of (1 + w) log p(x|c) - w log p(x), taken here by autograd in float64."""
    means, deviation, t, w = torch.tensor([-0.5, 0.5], dtype=torch.float64), 0.2, 500, 1.5
    signal, noise = math.sqrt(cosine.alphas_cumprod[t]), math.sqrt(1 - cosine.alphas_cumprod[t])
    variance = (signal * deviation) ** 2 + noise**2

    def log_density(x: Tensor, label: int) -> Tensor:
        of_class = -((x[..., None] - signal * means) ** 2) / (2 * variance)
        return torch.logsumexp(of_class, -1) - math.log(2) if label == 2 else of_class[..., label]

    def score(x: Tensor, label: int) -> Tensor:
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(log_density(x, label).sum(), x)
        return gradient

    def network(x_t: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
        return torch.stack([-noise * score(x, label) for x, label in zip(x_t, labels[0].tolist(), strict=True)])

    x_t, labels = torch.randn(2, 1, 3, 3, dtype=torch.float64), torch.tensor([0, 1])
    at = Levels.all_at(cosine.at(t), t, x_t)
    result = guided(predictor(network, cosine, Eps()), 2, scale=1 + w)(x_t, at, labels)
    for image, label in enumerate(labels.tolist()):
        x = x_t[image].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(((1 + w) * log_density(x, label) - w * log_density(x, 2)).sum(), x)
        torch.testing.assert_close(-result.eps_hat[image] / noise, gradient, rtol=1e-9, atol=1e-9)


def test_labels_are_dropped_at_their_rate() -> None:
    labels = torch.arange(100_000) % 10
    generator = torch.Generator().manual_seed(5)
    dropped = drop_labels(labels, 10, 0.1, generator)
    hidden = dropped == 10
    assert torch.equal(dropped[~hidden], labels[~hidden])
    # Five deviations of a binomial of 100,000: a right one fails once in 1.7 million seeds.
    assert abs(int(hidden.sum()) - 10_000) < 5 * math.sqrt(100_000 * 0.1 * 0.9)
    # Each class alike: ten binomials of 10,000, five deviations; a false alarm in 170,000 seeds.
    assert (torch.bincount(labels[hidden], minlength=10) - 1000).abs().max() < 5 * math.sqrt(10_000 * 0.1 * 0.9)


def test_label_dropout_is_a_function_of_the_generator_alone() -> None:
    labels = torch.arange(64) % 10

    def draw(seed: int) -> Tensor:
        return drop_labels(labels, 10, 0.5, torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert torch.equal(drop_labels(labels, 10, 0.0, torch.Generator()), labels)
    assert (drop_labels(labels, 10, 1.0, torch.Generator()) == 10).all()


def test_labels_are_filled_in(linear: NoiseSchedule) -> None:
    network = Recorder()
    x_t, at, labels = batch(linear)
    assert torch.equal(with_labels(network, labels)(x_t, at.step), network(x_t, at.step, labels))
    assert with_labels(network, None) is network
