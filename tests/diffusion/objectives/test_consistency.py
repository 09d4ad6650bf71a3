"""The consistency loss: its ends, its gradient, and what it trains, on a Gaussian whose consistency function is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ddpm_cli.diffusion.denoise import predictor
from ddpm_cli.diffusion.forward import Levels, q_sample
from ddpm_cli.diffusion.guidance import GuidanceShift, guidance_shift, guided
from ddpm_cli.diffusion.objectives.consistency import consistency_losses, distance_at, moved_ends, relative_distance
from ddpm_cli.diffusion.objectives.losses import p_losses
from ddpm_cli.diffusion.objectives.weightings import MinSnr, Weighting
from ddpm_cli.diffusion.prediction import Edm, Eps, Prediction, V
from ddpm_cli.diffusion.schedules import NoiseSchedule, adjusted, make_beta_schedule

SHAPE = (1, 2, 2)
STD = 0.6
"""Of the data, N(0, STD**2)."""
PREDICTIONS: dict[str, Prediction] = {"eps": Eps(), "v": V(), "edm": Edm(0.7)}


def schedule_of(timesteps: int) -> NoiseSchedule:
    return NoiseSchedule.from_betas(make_beta_schedule("cosine", timesteps))


def some_network(x_t: Tensor, t: Tensor) -> Tensor:
    """Depends on the image, its neighbours, and the step."""
    return 0.5 * torch.sin(3 * x_t + x_t.roll(1, 3)) + 0.1 * torch.cos(t.to(x_t.dtype) / 7).view(-1, 1, 1, 1)


def batch(size: int = 6, timesteps: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    x_0 = torch.randn(size, *SHAPE, dtype=torch.float64).clamp(-1, 1)
    return x_0, torch.linspace(0, timesteps - 1, size).long(), torch.randn_like(x_0)


@pytest.mark.parametrize("weighting", ["simple", "snr", MinSnr(5.0)])
@pytest.mark.parametrize("name", PREDICTIONS)
def test_at_the_largest_distance_it_is_the_loss_of_denoising(name: str, weighting: Weighting) -> None:
    prediction, schedule = PREDICTIONS[name], schedule_of(50)
    x_0, t, eps = batch()
    expected = p_losses(some_network, x_0, t, eps, schedule, prediction, weighting)
    losses = consistency_losses(some_network, x_0, t, eps, schedule, prediction, weighting, distance=1.0, pseudo_huber=None)
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=0)
    closer = consistency_losses(some_network, x_0, t, eps, schedule, prediction, weighting, distance=0.1, pseudo_huber=None)
    assert ((closer - expected).abs() > 1e-3 * expected).sum() >= 5  # all but the lowest step, below which there is only the image


def test_the_pseudo_huber_metric_squares_small_errors_and_takes_large_ones_as_they_are() -> None:
    schedule, (x_0, t, eps) = schedule_of(50), batch()
    squared = consistency_losses(some_network, x_0, t, eps, schedule, V(), pseudo_huber=None)
    large, small = (consistency_losses(some_network, x_0, t, eps, schedule, V(), pseudo_huber=c) for c in (1e-9, 1e4))
    torch.testing.assert_close(large, squared.sqrt(), rtol=1e-6, atol=1e-8)
    weight = (Levels.of_steps(schedule, t, x_0).snr + 1).flatten().sqrt()
    torch.testing.assert_close(small * 2e4 * weight, squared, rtol=1e-4, atol=0)


@pytest.mark.parametrize("pseudo_huber", [0.01, None])
def test_the_gradient_against_one_written_by_hand(pseudo_huber: float | None) -> None:
    """Of a network v_hat = a x_t: f = (alpha - sigma a) x_t, and nothing flows back through what it says at r."""
    schedule, (x_0, t, eps), distance = schedule_of(50), batch(), 0.2
    a = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    loss = consistency_losses(lambda x, _: a * x, x_0, t, eps, schedule, V(), distance=distance, pseudo_huber=pseudo_huber).mean()
    (gradient,) = torch.autograd.grad(loss, a)

    expected = 0.0
    for i, step in enumerate(t.tolist()):
        ratio = float(schedule.sigmas[step])
        share = min(1.0, distance * (1 + 8 * math.exp(-ratio) / (1 + math.exp(-ratio))))
        alpha, sigma, ratio_r = 1 / math.hypot(1, ratio), ratio / math.hypot(1, ratio), ratio * (1 - share)
        alpha_r, sigma_r = 1 / math.hypot(1, ratio_r), ratio_r / math.hypot(1, ratio_r)
        x_t, x_r = alpha * x_0[i] + sigma * eps[i], alpha_r * x_0[i] + sigma_r * eps[i]
        goal = x_0[i] if ratio_r < schedule.sigmas[0] else (alpha_r - sigma_r * 0.3) * x_r
        error, slope = (alpha - sigma * 0.3) * x_t - goal, -sigma * x_t
        along, size, weight = float((error * slope).mean()), float(error.square().mean()), 1 / sigma
        each = 2 * weight**2 * along if pseudo_huber is None else weight * along / math.sqrt(size + pseudo_huber**2)
        expected += each / share / len(t)
    assert float(gradient) == pytest.approx(expected, rel=1e-9)


def test_both_evaluations_drop_the_same() -> None:
    schedule, (x_0, t, eps) = schedule_of(50), batch()
    kept: list[Tensor] = []

    def network(x: Tensor, _: Tensor) -> Tensor:
        kept.append(nn.functional.dropout(torch.ones_like(x)))
        return kept[-1] * x

    for _ in range(2):
        consistency_losses(network, x_0, t, eps, schedule, V(), distance=0.1)
    assert torch.equal(kept[0], kept[1])
    assert torch.equal(kept[2], kept[3])
    assert not torch.equal(kept[1], kept[2])


def test_the_distance_shrinks_by_the_same_factor_in_the_same_time() -> None:
    assert [distance_at(share, 0.5, 0.005) for share in (0.0, 0.5, 1.0)] == pytest.approx([0.5, 0.05, 0.005])
    ratio = torch.tensor([0.0, 1.0, 100.0], dtype=torch.float64)
    widened = [5.0, 1 + 8 / (1 + math.e), 1.0]
    assert relative_distance(ratio, 0.1).tolist() == pytest.approx([0.1 * n for n in widened])
    assert relative_distance(ratio, 0.5).tolist() == pytest.approx([1.0, 1.0, 0.5])


def test_where_no_signal_is_left_the_other_level_has_some() -> None:
    """With zero terminal SNR sigma / alpha of the last step is infinite, and a part of it would be infinite too."""
    schedule = adjusted(schedule_of(50), zero_terminal_snr=True)
    x_0, eps = torch.ones(1, *SHAPE, dtype=torch.float64), torch.full((1, *SHAPE), 0.25, dtype=torch.float64)
    seen: list[Tensor] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return x

    losses = consistency_losses(network, x_0, torch.tensor([49]), eps, schedule, V(), distance=0.5)
    assert torch.isfinite(losses).all()
    below, last = seen
    assert 47 < float(below) < 48 < float(last) == 49
    assert float(Levels.of_ratios(schedule, torch.tensor([1e30]), x_0).step) == 48


@pytest.mark.parametrize("ratio", [1e-9, 0.01, 0.3, 1.0, 40.0, 1e9])
def test_levels_of_ratios_are_those_of_the_schedule(ratio: float) -> None:
    schedule, x = schedule_of(50), torch.zeros(1, *SHAPE, dtype=torch.float64)
    at = Levels.of_ratios(schedule, torch.tensor([ratio], dtype=torch.float64), x)
    level = schedule.level_of_ratio(ratio)
    assert float(at.alpha) == pytest.approx(level.alpha, rel=1e-9)
    assert float(at.sigma) == pytest.approx(level.sigma, rel=1e-9)
    assert float(at.step) == pytest.approx(schedule.step(level), abs=1e-5)
    lone = Levels.of_ratios(NoiseSchedule.from_betas(make_beta_schedule("linear", 1)), torch.tensor([ratio]), x)
    assert (float(lone.step), float(lone.sigma)) == (0, pytest.approx(0.1**0.5))


# ------------------------------------------------------------------------------------------------- what it is trained to


class Slopes(nn.Module):
    """v_hat = a(t) x_t, with a number for each step and lines between them."""

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.zeros(timesteps, dtype=torch.float64))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        below = t.floor().long().clamp(max=len(self.a) - 2)
        return torch.lerp(self.a[below], self.a[below + 1], (t - below).double()).view(-1, 1, 1, 1) * x_t


def slope_of_the_end(alpha: Tensor, sigma: Tensor) -> Tensor:
    """Of the probability-flow ODE on N(0, STD**2): x_0 = STD / sqrt(alpha**2 STD**2 + sigma**2) x_t."""
    return STD / (alpha.square() * STD**2 + sigma.square()).sqrt()


def trained_slopes(schedule: NoiseSchedule, last: float) -> Tensor:
    """Train on one image and noise that have the moments of all: mean squares STD**2 and 1, and no correlation.

    Of a network that is linear in x_t, its loss is then the mean loss of the Gaussian, without chance.
    """
    timesteps = schedule.timesteps
    x_0 = STD * torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).view(1, *SHAPE).expand(timesteps, -1, -1, -1)
    eps = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64).view(1, *SHAPE).expand_as(x_0)
    network, steps = Slopes(timesteps), 2000
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for number in range(steps):
        distance = distance_at(number / steps, 0.5, last)
        loss = consistency_losses(network, x_0, torch.arange(timesteps), eps, schedule, V(), distance=distance).mean()
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - number / steps)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    alpha, sigma = tables(schedule)
    return alpha - sigma * network.a.detach()


def tables(schedule: NoiseSchedule) -> tuple[Tensor, Tensor]:
    return torch.tensor(schedule.sqrt_alphas_cumprod), torch.tensor(schedule.sqrt_one_minus_alphas_cumprod)


@pytest.mark.parametrize("last", [0.1, 0.04])
def test_on_a_gaussian_it_trains_the_consistency_function(last: float) -> None:
    """Within 1.5 times the last distance at all 30 steps, where the map of denoising is off by more than 0.3.

    The function falls from 1 (clean) to 0.6 (noise). A distance moves the minimum itself, by about 0.7 times itself.
    """
    schedule = NoiseSchedule.from_betas(make_beta_schedule("linear", 30))
    alpha, sigma = tables(schedule)
    wanted = slope_of_the_end(alpha, sigma)
    error = (trained_slopes(schedule, last) - wanted).abs().max()
    assert 0.5 * last < error < 1.5 * last
    of_denoising = alpha * STD**2 / (alpha.square() * STD**2 + sigma.square())
    assert (of_denoising - wanted).abs().max() > 0.3


# -------------------------------------------------------------------------------------------------------------- guidance


def of_classes(x_t: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
    """Label 2 hides the class."""
    return some_network(x_t, t) + torch.tensor([0.3, -0.2, 0.05])[labels[0]].view(-1, 1, 1, 1)


def shift_of(schedule: NoiseSchedule, **options: float | tuple[float, float]) -> GuidanceShift:
    return guidance_shift(predictor(of_classes, schedule, V()), 2, **options)  # type: ignore[arg-type]


def test_guidance_moves_both_ends_and_not_what_lies_between() -> None:
    """So that the mean of the images is what a guided teacher says, and the hidden class stays where it is."""
    schedule, (x_0, t, eps) = schedule_of(50), batch()
    labels = torch.tensor([0, 1, 0, 1, 0, 2])
    shift = shift_of(schedule, scale=3.0)
    moved, noise = moved_ends(lambda x_0, x_t, at: x_0 + shift(x_t, at, labels), x_0, t, eps, schedule)
    x_t = q_sample(x_0, t, eps, schedule)
    torch.testing.assert_close(q_sample(moved, t, noise, schedule), x_t)
    at = Levels.of_steps(schedule, t, x_0)
    predict = predictor(of_classes, schedule, V())
    wanted = guided(predict, 2, scale=3.0)(x_t, at, labels).x0_hat - predict(x_t, at, labels).x0_hat
    torch.testing.assert_close(moved - x_0, wanted)
    assert wanted[:5].abs().amin(dim=(1, 2, 3)).min() > 1e-3
    assert wanted[5].abs().max() == 0


def test_guidance_in_an_interval_moves_what_lies_in_it() -> None:
    schedule, (x_0, t, eps) = schedule_of(50), batch()
    ratios = schedule.sigmas[t.numpy()]
    shift = shift_of(schedule, scale=3.0, interval=(float(ratios[1]), float(ratios[3])))
    labels = torch.zeros(6, dtype=torch.int64)
    moved, _ = moved_ends(lambda x_0, x_t, at: x_0 + shift(x_t, at, labels), x_0, t, eps, schedule)
    assert (moved - x_0).abs().amax(dim=(1, 2, 3)).gt(0).tolist() == [False, False, True, True, False, False]


def test_the_contrast_of_guidance_is_taken_back() -> None:
    schedule, (x_0, t, eps) = schedule_of(50), batch()
    labels = torch.zeros(6, dtype=torch.int64)
    at, x_t = Levels.of_steps(schedule, t, x_0), q_sample(x_0, t, eps, schedule)
    wanted = guided(predictor(of_classes, schedule, V()), 2, scale=3.0, rescale=0.7)(x_t, at, labels).x0_hat
    plain = predictor(of_classes, schedule, V())(x_t, at, labels).x0_hat
    torch.testing.assert_close(shift_of(schedule, scale=3.0, rescale=0.7)(x_t, at, labels), wanted - plain)
