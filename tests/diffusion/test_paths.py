"""Sampling along another path: the same pictures in other coordinates, and steps in other places."""

from __future__ import annotations

import itertools
import math
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from all_samplers import SAMPLERS
from exact_flow import LAST, STEPS, even_schedule, order_of, start_and_exact_end
from noise_sources import no_noise, source
from plane_mixture import best_denoise
from torch import Tensor

from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.resolve.outline import sections
from ddpm_cli.config.schema.sample import (
    DdimSampler,
    DeisSampler,
    DpmSolverSampler,
    EulerSampler,
    HeunSampler,
    LinspaceSpacing,
    LogsnrSpacing,
    SampleConfig,
    SamplerBase,
    UnipcSampler,
)
from ddpm_cli.config.schema.schedule import LinearSchedule
from ddpm_cli.diffusion.denoise import Denoise, make_denoise
from ddpm_cli.diffusion.forward import Levels
from ddpm_cli.diffusion.levels import CLEAN, Level, Schedule
from ddpm_cli.diffusion.paths import Seen, along
from ddpm_cli.diffusion.prediction import Denoised, estimated
from ddpm_cli.diffusion.sampling import Noise, StepOutput, sample

T = 50
PATHS = {kind: cls() for kind, cls in sections()["sample.path"].items() if kind != "own"}
SCHEDULES: dict[str, Any] = {
    kind: cls(timesteps=T) for kind, cls in sections()["schedule"].items() if kind not in ("table", "learned")
} | {"linear, zero terminal SNR": LinearSchedule(timesteps=T, zero_terminal_snr=True)}
KINDS = {kind: cls().build() for kind, cls in sections()["objective.parameterization"].items()}
POWER = {"flow": lambda level: level.alpha + level.sigma, "trig-flow": lambda level: level.power, "edm": lambda level: level.alpha}
"""What is 1 all along each path, but for noise alone."""


@pytest.fixture(scope="module")
def schedules() -> dict[str, Schedule]:
    return {name: build_schedule(config) for name, config in SCHEDULES.items()}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_steps_lie_on_the_path_between_the_ends_of_the_schedule(name: str, path: str, schedules: dict[str, Schedule]) -> None:
    own = schedules[name]
    seen = SampleConfig(path=PATHS[path]).seen(own)
    assert isinstance(seen, Seen)
    levels = [seen.at(step) for step in range(T)]
    assert seen.at(-1) == CLEAN
    assert seen.unseen(levels[0]) == own.at(0)
    assert seen.unseen(levels[-1]) == own.at(T - 1)
    assert all(less.ratio < more.ratio and less.t < more.t for less, more in pairwise(levels))
    assert [level.ratio for level in levels] == pytest.approx(seen.sigmas.tolist(), rel=1e-12)
    for level in levels:
        assert seen.unseen(level).ratio == pytest.approx(level.ratio, rel=1e-6)
        assert (1.0 if level.signal == 0.0 else POWER[path](level)) == pytest.approx(1.0, abs=1e-12)
    if "flow" not in name or path != name:
        return
    assert [level.t for level in levels] == pytest.approx([own.at(step).t for step in range(T)])  # its own path


def test_steps_are_even_in_the_time_of_the_path() -> None:
    own = even_schedule()
    times = {
        "flow": lambda level: level.sigma,
        "trig-flow": lambda level: math.atan(level.ratio),
        "edm": lambda level: min(level.ratio, 164.0) ** (1 / 7),
    }
    for path, time in times.items():
        seen = SampleConfig(path=PATHS[path]).seen(own)
        found = [time(seen.at(step)) for step in range(own.timesteps)]
        even = [found[0] + (found[-1] - found[0]) * step / LAST for step in range(own.timesteps)]
        assert found == pytest.approx(even, rel=1e-6), path


def observed(path: str, own: Schedule, denoise: Denoise, x_t: Tensor, t: Level) -> tuple[Tensor, Level, Denoised]:
    """What a sampler sees along a path where the world has x_t at t: images, their level, and what is said of them."""
    seen, found = SampleConfig(path=PATHS[path]).seen(own), []

    def step(seen_denoise: Denoise, x: Tensor, now: Level, then: Level, noise: Noise) -> StepOutput:
        found.append((x, now, seen_denoise(x, now)))
        return StepOutput(x, found[0][2].x0_hat)

    assert isinstance(seen, Seen)
    along(seen, step)(denoise, x_t, t, CLEAN, no_noise)
    return found[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_estimate_of_the_image_is_that_of_the_same_picture(name: str, kind: str, schedules: dict[str, Schedule]) -> None:
    """To 1e-6, of a network that is anything but linear; where it may know of noise alone, there too."""
    own, prediction, draws = schedules[name], KINDS[kind], source(3)
    weights = torch.randn(4, 4, dtype=torch.float64, generator=draws)

    def network(x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(x @ weights) + 0.01 * t.double().view(-1, 1, 1, 1)

    def predict(x_t: Tensor, at: Levels, labels: None) -> Denoised:
        return estimated(prediction, network(*prediction.network_input(x_t, at)), x_t, at)

    denoise = make_denoise(predict, own)
    steps = range(T - 1 if prediction.unknown_without_signal and own.at(T - 1).signal == 0.0 else T)
    for path, step in itertools.product(PATHS, [*steps[::12], steps[-1]]):
        level = own.at(step)
        x_t = level.power**0.5 * torch.randn(2, 1, 4, 4, dtype=torch.float64, generator=draws)
        x, seen, found = observed(path, own, denoise, x_t, level)
        assert torch.allclose(found.x0_hat, denoise(x_t, level).x0_hat, rtol=0, atol=1e-6)
        assert torch.allclose(seen.alpha * found.x0_hat + seen.sigma * found.eps_hat, x, rtol=1e-6, atol=1e-6)
        assert x.std() / seen.power**0.5 == pytest.approx(float(x_t.std() / level.power**0.5))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_makes_the_same_images_in_any_coordinates(sampler: str) -> None:
    """With the same levels and noise, to rounding: none of them takes for granted that variance is preserved."""
    own = even_schedule()
    x_T, _ = start_and_exact_end()

    def images(path: str) -> Tensor:
        config = SAMPLERS[sampler].model_copy(update={"steps": 12, "spacing": LogsnrSpacing()})
        if isinstance(config, HeunSampler) and config.along == "auto":
            config = config.model_copy(update={"along": "sigma"})  # along each path it is another method
        seen = SampleConfig(path=path).seen(own)
        step, _ = config.prepare(seen)
        _, levels = config.prepare(own)
        noise = partial(torch.randn, x_T.shape, dtype=torch.float64, generator=source(4))
        return sample(with_fraction, along(seen, step) if isinstance(seen, Seen) else step, levels, x_T, noise)

    def with_fraction(x_t: Tensor, t: Level) -> Denoised:  # of a learned variance
        return best_denoise()(x_t, t)._replace(variance_fraction=torch.full_like(x_t, 0.3))

    expected = images("own")
    for path in PATHS:
        assert torch.allclose(images(path), expected, rtol=0, atol=1e-9), path


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("sampler", "least", "most"),
    [
        pytest.param(DdimSampler(), 0.8, 1.3, id="ddim"),
        pytest.param(EulerSampler(), 0.8, 1.3, id="euler"),
        pytest.param(HeunSampler(), 1.6, 2.6, id="heun"),
        pytest.param(DpmSolverSampler(order=2), 1.6, 2.6, id="dpm-solver++ 2M"),
        pytest.param(DeisSampler(order=2), 1.6, 3.0, id="deis 2"),  # 2.83 along trig-flow
        pytest.param(UnipcSampler(order=2), 1.8, 3.4, id="unipc 2"),
    ],
)
def test_samples_converge_to_those_of_the_models_own_path(sampler: SamplerBase, least: float, most: float, path: str) -> None:
    """From the same noise to the end of the exact ODE, at the order of the solver."""
    x_T, exact = start_and_exact_end()
    errors = []
    for n in STEPS:
        config = SampleConfig(path=path, sampler=sampler.model_copy(update={"steps": n + 1, "spacing": LinspaceSpacing()}))
        step, levels = config.prepare(even_schedule())
        assert (levels[0], levels[-1]) == (even_schedule().at(LAST), even_schedule().at(0))
        x_t = x_T
        for t, s in pairwise(levels):
            x_t = step(best_denoise(), x_t, t, s, no_noise).x_s
        errors.append(float((x_t - exact).square().mean().sqrt()))
    assert least < order_of(errors) < most, errors
