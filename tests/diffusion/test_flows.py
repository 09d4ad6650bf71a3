"""Paths between image and noise in closed form: flow matching and TrigFlow."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_cli.config.schema.config import Config
from ddpm_cli.config.schema.schedule import FlowSchedule
from ddpm_cli.diffusion.denoise import make_denoise, predictor
from ddpm_cli.diffusion.flows import Flow, PathSchedule, TrigFlow
from ddpm_cli.diffusion.forward import Levels, noise_further, noised
from ddpm_cli.diffusion.guidance import guided_by
from ddpm_cli.diffusion.levels import CLEAN, Level, Schedule, added_noise
from ddpm_cli.diffusion.objectives.losses import hybrid_losses, p_losses, vlb_losses
from ddpm_cli.diffusion.objectives.weightings import Velocity, loss_weight
from ddpm_cli.diffusion.prediction import X0, Edm, Eps, FlowVelocity, Prediction, V, check_prediction
from ddpm_cli.diffusion.schedules import NoiseSchedule, make_beta_schedule, shift_logsnr
from ddpm_cli.errors import ScheduleError

PATHS: dict[str, PathSchedule] = {"flow": Flow(), "shifted": Flow(200, shift=3.0), "trig-flow": TrigFlow(500)}
TABLE = NoiseSchedule.from_betas(make_beta_schedule("cosine", 1000))
PREDICTIONS: list[Prediction] = [Eps(), X0(), V(), Edm(), FlowVelocity()]
on_paths = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


def draws(seed: int = 0, *shape: int) -> Tensor:
    return torch.randn(*(shape or (4, 1, 3, 3)), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@on_paths
def test_a_path_goes_from_the_image_to_noise_alone(path: PathSchedule) -> None:
    T = path.timesteps
    assert path.at(-1) == path.level(0.0) == CLEAN
    assert (path.at(T - 1).signal, path.at(T - 1).noise) == (0.0, 1.0)
    ratios = [path.at(t).ratio for t in range(-1, T)]
    assert all(less < more for less, more in pairwise(ratios))
    assert path.sigmas.tolist() == pytest.approx(ratios[1:])
    assert [path.step(path.at(t)) for t in range(-1, T)] == list(range(-1, T))
    for outside in (-2, T):
        with pytest.raises(ScheduleError, match="outside"):
            path.at(outside)
    with pytest.raises(ScheduleError, match="between 0 and 1"):
        path.level(1.5)


@on_paths
@pytest.mark.parametrize("ratio", [1e-4, 0.03, 1.0, 50.0, 2e4, math.inf])
def test_levels_are_found_by_their_ratio(path: PathSchedule, ratio: float) -> None:
    assert path.level_of_ratio(ratio).ratio == pytest.approx(ratio, rel=1e-9)


def test_trig_flow_preserves_variance_and_flow_does_not() -> None:
    assert all(TrigFlow().at(t).power == 1.0 for t in range(1000))
    assert Flow().level(0.5).power == 0.5


@pytest.mark.parametrize("shift", [0.5, 3.0])
def test_a_shift_is_that_of_the_log_snr(shift: float) -> None:
    """Against shift_logsnr, of a table with the same ratios: two ways to do the same."""
    t = np.arange(1, 100) / 100
    abar = 1.0 / (1.0 + (t / (1.0 - t)) ** 2)
    shifted = shift_logsnr(abar, -2.0 * math.log(shift))
    ours = [Flow(shift=shift).level(value).ratio for value in t.tolist()]
    assert ours == pytest.approx(np.sqrt((1.0 - shifted) / shifted).tolist())


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_network_is_told_what_diffusers_tells_it(shift: float) -> None:
    """Their timesteps are 1000 times their sigmas."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    theirs, ours = FlowMatchEulerDiscreteScheduler(1000, shift=shift), Flow(1000, shift)
    told = [ours.told(ours.at(t)) for t in reversed(range(1000))]
    assert told == pytest.approx(theirs.timesteps.tolist(), abs=1e-3)
    assert [ours.at(t).sigma for t in reversed(range(1000))] == pytest.approx(theirs.sigmas[:1000].tolist(), abs=1e-6)


@on_paths
def test_tensors_of_levels_are_the_levels(path: PathSchedule) -> None:
    x = draws()
    t = torch.tensor([0, 7, 150, path.timesteps - 1])
    for steps in (t, t.double()):
        found = Levels.of_steps(path, steps, x)
        for row, level in enumerate(path.at(int(step)) for step in t):
            alone = Levels.all_at(level, path.told(level), x[row : row + 1])
            for name in ("step", "alpha", "sigma", "snr", "half_logsnr"):
                torch.testing.assert_close(getattr(found, name)[row], getattr(alone, name)[0], rtol=1e-9, atol=1e-12)
        assert found.step.dtype == torch.float32
    ratio = torch.tensor([0.05, 0.5, 3.0, 40.0], dtype=torch.float64)
    torch.testing.assert_close(torch.exp(-Levels.of_ratios(path, ratio, x).half_logsnr.flatten()), ratio)


@on_paths
def test_noising_in_two_steps_is_noising_at_once(path: PathSchedule) -> None:
    """Mean and variance of x_t given x_0, by the variances of both steps."""
    s, t = path.level(0.3), path.level(0.8)
    kept = t.signal / s.signal
    assert kept * s.noise + added_noise(s, t) == pytest.approx(t.noise)
    x_0, z = draws(1), draws(2)
    torch.testing.assert_close(noise_further(x_0, CLEAN, t, z), t.alpha * x_0 + t.sigma * z)


@pytest.mark.parametrize("prediction", PREDICTIONS, ids=lambda prediction: type(prediction).__name__)
@pytest.mark.parametrize("schedule", [TABLE, *PATHS.values()], ids=["table", *PATHS])
def test_what_is_to_be_said_tells_image_and_noise(schedule: Schedule, prediction: Prediction) -> None:
    x_0, eps = draws(1), draws(2)
    at = Levels.of_steps(schedule, torch.tensor([0, 60, 120, schedule.timesteps - 2]), x_0)
    x_t = noised(x_0, eps, at)
    target = prediction.target(x_0, eps, at)
    found = prediction.estimate(target, x_t, at)
    torch.testing.assert_close(found.x0_hat, x_0, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.eps_hat, eps, rtol=1e-6, atol=1e-6)
    off = prediction.estimate(target + 0.01, x_t, at).x0_hat - x_0
    worth = off.square() * prediction.error_factor(at)
    torch.testing.assert_close(worth, torch.full_like(worth, 1e-4), rtol=1e-5, atol=0)


@pytest.mark.parametrize("schedule", PATHS.values(), ids=PATHS)
def test_one_network_is_another_by_a_change_of_coordinates(schedule: PathSchedule) -> None:
    """A network of v on the circle, asked as one of u on another path: the same image at the same noise over signal."""
    weights = draws(3, 3, 3)
    circle = TrigFlow()

    def v_network(x_t: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(x_t @ weights + 1e-3 * t.double().view(-1, 1, 1, 1))

    denoise_v = make_denoise(predictor(v_network, circle, V()), circle, threshold=None)
    for ratio in (0.02, 0.7, 9.0):
        here, there = schedule.level_of_ratio(ratio), circle.level_of_ratio(ratio)
        scale = there.alpha / here.alpha

        def u_network(x_t: Tensor, t: Tensor, scale: float = scale, there: Level = there) -> Tensor:
            estimate = denoise_v(x_t * scale, there)
            return estimate.eps_hat - estimate.x0_hat

        x_t = draws(4)
        ours = make_denoise(predictor(u_network, schedule, FlowVelocity()), schedule, threshold=None)(x_t, here)
        torch.testing.assert_close(ours.x0_hat, denoise_v(x_t * scale, there).x0_hat, rtol=1e-6, atol=1e-6)


def test_a_guide_of_another_path_sees_the_images_as_they_are_there() -> None:
    """A model on a table and a guide of flow matching: the guide is asked at its own level, alpha and sigma of it."""
    guide, level = Flow(1000, shift=2.0), TABLE.at(600)
    seen: list[tuple[Tensor, Tensor]] = []

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append((x_t, t))
        return torch.zeros_like(x_t)

    own = predictor(lambda x, t: torch.zeros_like(x), TABLE, V())
    guided = guided_by(own, predictor(network, guide, FlowVelocity()), scale=2.0, schedule=guide)
    x_0, eps = draws(1), draws(2)
    guided(level.alpha * x_0 + level.sigma * eps, Levels.all_at(level, 600, x_0), None)
    ((x_t, t),) = seen
    theirs = guide.level_of_ratio(level.ratio)
    torch.testing.assert_close(x_t, theirs.alpha * x_0 + theirs.sigma * eps)
    assert t.tolist() == pytest.approx([guide.told(theirs)] * 4, rel=1e-6)
    assert theirs.power != pytest.approx(1.0, abs=0.1)


def test_velocities_are_derivatives_of_the_path() -> None:
    """u of the flow, and pi / 2 times v of TrigFlow, by central differences of x_t in t."""
    x_0, eps, h = draws(1), draws(2), 1e-6
    for path, prediction, factor in ((Flow(), FlowVelocity(), 1.0), (TrigFlow(), V(), math.pi / 2)):
        ahead, behind = path.level(0.4 + h), path.level(0.4 - h)
        slope = ((ahead.alpha - behind.alpha) * x_0 + (ahead.sigma - behind.sigma) * eps) / (2 * h)
        level = path.level(0.4)
        at = Levels.all_at(level, path.told(level), x_0)
        torch.testing.assert_close(factor * prediction.target(x_0, eps, at), slope, rtol=1e-6, atol=1e-8)


def test_velocity_weighting_gives_every_prediction_the_loss_of_the_velocity() -> None:
    x_0, eps = draws(1), draws(2)
    t = torch.tensor([99.0, 300.5, 700.25, 950.0], dtype=torch.float64)
    at = Levels.of_steps(Flow(), t, x_0)
    x_t = noised(x_0, eps, at)
    x0_hat = x_0 + 0.1 * draws(3)
    u_hat = (x_t - x0_hat) / at.sigma
    as_flow = p_losses(lambda x, t: u_hat, x_0, t, eps, Flow(), FlowVelocity())
    as_image = p_losses(lambda x, t: x0_hat, x_0, t, eps, Flow(), X0(), Velocity())
    torch.testing.assert_close(as_flow, as_image)
    near_clean = Levels.of_steps(Flow(), torch.tensor([9.0], dtype=torch.float64), x_0[:1])
    assert float(loss_weight(Velocity(0.05), X0(), near_clean)) == pytest.approx(400.0)


def test_steps_without_signal_ask_for_a_prediction_that_knows_the_image() -> None:
    for prediction in (X0(), V(), FlowVelocity()):
        check_prediction(prediction, Flow())
    for wrong in (Eps(), Edm()):
        with pytest.raises(ScheduleError, match="zero terminal SNR") as caught:
            check_prediction(wrong, Flow())
        assert '"flow"' in str(caught.value.remedy)


def test_what_is_of_betas_refuses_a_path() -> None:
    x_0, eps, t = draws(1), draws(2), torch.tensor([1, 2, 3, 4])
    for loss in (vlb_losses, hybrid_losses):
        with pytest.raises(ScheduleError, match="no betas"):
            loss(lambda x, t: torch.cat([x, x], 1), x_0, t, eps, Flow())
    for kind in ("vlb", "hybrid"):
        with pytest.raises(ValueError, match="of betas"):
            Config.model_validate({"schedule": "flow", "objective": {"loss": kind, "parameterization": "flow"}})


def test_a_shift_by_resolution_follows_the_size_of_the_images() -> None:
    left = FlowSchedule(shift="resolution")
    assert left.build().shift == 1.0
    assert left.for_images((3, 128, 128)).shift == 2.0
    assert left.for_images((1, 16, 64)).shift == 0.5
    assert FlowSchedule(shift=3.0).for_images((3, 128, 128)).shift == 3.0
