"""Trajectories of diffusers' schedulers from the same noise, the same steps and the same toy network.

Their tables are float32, so trajectories agree to 1e-4 and not further. Two differences are theirs to have and are kept out of
these comparisons: DDIMScheduler takes `t - T // n` as the previous step, which is wrong unless the steps lie exactly T // n apart
("linspace", or n that does not divide T), so it is compared on "trailing" with n that divides T; DDPMScheduler, fixed_large, adds
noise at the last step if that is not t = 0, where we add none, so that variance is compared on lists that end in 0. Two more are
mistakes of theirs, and the tests of order 3 say so: DPMSolverMultistepScheduler takes half of the second difference; and
UniPCMultistepScheduler, like ours of order 1 in the last step, also lowers the last but one, so that step is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    IPNDMScheduler,
    UniPCMultistepScheduler,
)
from levels_of_steps import levels
from torch import Tensor

from ddpm_cli.diffusion.denoise import clamp, make_denoise, predictor
from ddpm_cli.diffusion.levels import Level
from ddpm_cli.diffusion.prediction import X0, Denoised, Eps, V
from ddpm_cli.diffusion.samplers import multistep
from ddpm_cli.diffusion.samplers.adams import deis, ipndm
from ddpm_cli.diffusion.samplers.ddim import ddim
from ddpm_cli.diffusion.samplers.ddpm import ddpm
from ddpm_cli.diffusion.samplers.dpm_solver import dpm_solver
from ddpm_cli.diffusion.samplers.euler import euler
from ddpm_cli.diffusion.samplers.heun import heun
from ddpm_cli.diffusion.samplers.unipc import unipc
from ddpm_cli.diffusion.sampling import Step, sample_steps
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.diffusion.thresholding import dynamic_threshold
from ddpm_cli.diffusion.timesteps import Spacing, karras_levels, logsnr_levels, select_timesteps

SHAPE = (3, 1, 6, 6)
KINDS = {"eps": Eps(), "x0": X0(), "v": V()}
THEIR_NAME = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
CONFIG = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


def network(x_t: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(1.3 * x_t + t.view(-1, 1, 1, 1) / 1000)


def normal(seed: int) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(SHAPE, generator=generator)


def our_trajectory(schedule: NoiseSchedule, step: Step, steps: list[int], kind: str, clip: bool) -> list[Tensor]:
    denoise = make_denoise(predictor(network, schedule, KINDS[kind]), schedule, threshold=clamp if clip else None)
    return [output.x_s for output in sample_steps(denoise, step, levels(schedule, steps), normal(0)(), normal(1))]


def their_trajectory(scheduler: Any, **options: Any) -> list[Tensor]:
    if not isinstance(scheduler, UniPCMultistepScheduler | DEISMultistepScheduler):
        options["generator"] = torch.Generator().manual_seed(1)
    x_t, trajectory = normal(0)(), []
    for t in scheduler.timesteps:
        x_t = scheduler.step(network(x_t, t.expand(3)), t, x_t, **options).prev_sample
        trajectory.append(x_t)
    return trajectory


def assert_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [10, 20, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize(("kind", "clip"), [("eps", True), ("x0", False), ("v", True)])
def test_ddpm_fixed_small(spacing: Spacing, n: int, kind: str, clip: bool, linear: NoiseSchedule) -> None:
    steps = select_timesteps(1000, n, spacing)
    scheduler = DDPMScheduler(**CONFIG, variance_type="fixed_small", clip_sample=clip, prediction_type=THEIR_NAME[kind])
    scheduler.set_timesteps(timesteps=steps)
    assert_same(our_trajectory(linear, ddpm(), steps, kind, clip), their_trajectory(scheduler))


@pytest.mark.parametrize("n", [10, 20, 50])
@pytest.mark.parametrize("spacing", ["leading", "linspace"])
def test_ddpm_fixed_large(spacing: Spacing, n: int, linear: NoiseSchedule) -> None:
    steps = select_timesteps(1000, n, spacing)
    scheduler = DDPMScheduler(**CONFIG, variance_type="fixed_large", clip_sample=True)
    scheduler.set_timesteps(timesteps=steps)
    assert_same(our_trajectory(linear, ddpm(variance="fixed-large"), steps, "eps", True), their_trajectory(scheduler))


@pytest.mark.parametrize("n", [10, 20, 50])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("kind", "clip"), [("eps", True), ("x0", False), ("v", True)])
def test_ddim(n: int, eta: float, kind: str, clip: bool, linear: NoiseSchedule) -> None:
    scheduler = DDIMScheduler(**CONFIG, clip_sample=clip, timestep_spacing="trailing", prediction_type=THEIR_NAME[kind])
    scheduler.set_timesteps(n)
    steps = select_timesteps(1000, n, "trailing")
    assert scheduler.timesteps.tolist() == steps
    theirs = their_trajectory(scheduler, eta=eta, use_clipped_model_output=True)
    # Their last step draws noise with weight 0; ours draws none, which changes nothing.
    assert_same(our_trajectory(linear, ddim(eta=eta), steps, kind, clip), theirs)


@pytest.mark.parametrize("n", [10, 20, 50])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("kind", ["x0", "v"])
def test_dpm_solver(n: int, order: Any, spacing: Spacing, kind: str, linear: NoiseSchedule) -> None:
    scheduler = DPMSolverMultistepScheduler(
        **CONFIG, solver_order=order, algorithm_type="dpmsolver++", final_sigmas_type="zero", prediction_type=THEIR_NAME[kind]
    )
    steps = select_timesteps(1000, n, spacing)
    scheduler.set_timesteps(timesteps=steps)
    assert scheduler.timesteps.tolist() == steps
    assert_same(our_trajectory(linear, dpm_solver(order=order), steps, kind, False), their_trajectory(scheduler))


@pytest.mark.parametrize("n", [10, 20, 50])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("kind", ["x0", "v"])
def test_dpm_solver_sde(n: int, order: Any, kind: str, linear: NoiseSchedule) -> None:
    scheduler = DPMSolverMultistepScheduler(
        **CONFIG, solver_order=order, algorithm_type="sde-dpmsolver++", final_sigmas_type="zero", prediction_type=THEIR_NAME[kind]
    )
    steps = select_timesteps(1000, n, "trailing")
    scheduler.set_timesteps(timesteps=steps)
    ours = our_trajectory(linear, dpm_solver(order=order, sde=True), steps, kind, False)
    assert_same(ours, their_trajectory(scheduler))


@pytest.mark.parametrize("n", [10, 20, 50])
def test_dpm_solver_of_order_3_but_for_half_of_the_second_difference(
    n: int, linear: NoiseSchedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Theirs has the weight (exp(-h) - 1 + h) / h**2 - 1/2 for D2 = h**2 / 2 * x0'', half of its integral: order 2 only."""
    scheduler = DPMSolverMultistepScheduler(
        **CONFIG,
        solver_order=3,
        algorithm_type="dpmsolver++",
        final_sigmas_type="zero",
        lower_order_final=False,
        prediction_type="sample",
    )
    steps = select_timesteps(1000, n, "trailing")
    scheduler.set_timesteps(timesteps=steps)
    theirs = their_trajectory(scheduler)
    ours = our_trajectory(linear, dpm_solver(order=3), steps, "x0", False)
    assert not torch.allclose(torch.stack(ours), torch.stack(theirs), rtol=1e-4, atol=1e-4)

    exact = multistep.moments

    def halved(h: float, count: int) -> tuple[float, ...]:
        return tuple(moment / 2 if k == 2 else moment for k, moment in enumerate(exact(h, count), 1))

    monkeypatch.setattr(multistep, "moments", halved)
    assert_same(our_trajectory(linear, dpm_solver(order=3), steps, "x0", False), theirs)


@pytest.mark.parametrize("n", [10, 20, 50])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(("kind", "variant"), [("x0", "bh2"), ("v", "bh2"), ("v", "bh1")])
def test_unipc(n: int, order: Any, kind: str, variant: Any, linear: NoiseSchedule) -> None:
    scheduler = UniPCMultistepScheduler(
        **CONFIG,
        solver_order=order,
        solver_type=variant,
        final_sigmas_type="zero",
        timestep_spacing="trailing",
        prediction_type=THEIR_NAME[kind],
    )
    steps = select_timesteps(1000, n, "trailing")
    scheduler.set_timesteps(n)
    assert scheduler.timesteps.tolist() == steps
    kept = n - 2 if order == 3 or variant == "bh1" else n  # its bh1 ends in NaN
    assert_same(
        our_trajectory(linear, unipc(order=order, variant=variant), steps, kind, False)[:kept],
        their_trajectory(scheduler)[:kept],
    )


@pytest.mark.parametrize("n", [10, 20, 50])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_deis(n: int, order: Literal[1, 2, 3], kind: str, linear: NoiseSchedule) -> None:
    """Theirs does not go to clean data in its last step, and lowers the order of the last but one too where there are few.

    Its coefficients are differences of nearly equal numbers, which in float32 cost it two digits at order 3: it gets float64.
    """
    scheduler = DEISMultistepScheduler(**CONFIG, solver_order=order, timestep_spacing="trailing", prediction_type=THEIR_NAME[kind])
    scheduler.set_timesteps(n)
    steps = select_timesteps(1000, n, "trailing")
    assert scheduler.timesteps.tolist() == steps
    scheduler.sigmas = torch.tensor([linear.at(t).ratio for t in [*steps, 0]], dtype=torch.float64)
    kept = n - 2 if order == 3 and n < 15 else n - 1
    assert_same(our_trajectory(linear, deis(order=order), steps, kind, False)[:kept], their_trajectory(scheduler)[:kept])


@pytest.mark.parametrize("n", [10, 50])
def test_ipndm(n: int) -> None:
    """Theirs asks the network for the velocity, at an angle; at 90 degrees, where it begins by itself, it would lose the images."""
    angles = np.linspace(1.5, 0.0, n + 1)
    scheduler = IPNDMScheduler(trained_betas=np.sin(angles).tolist())
    scheduler.set_timesteps(n)
    pairs = zip(scheduler.timesteps.tolist(), angles[:-1], strict=True)
    path = [Level(t, math.cos(angle) ** 2, math.sin(angle) ** 2) for t, angle in pairs]
    x_t, theirs = normal(0)(), []
    for t in scheduler.timesteps:
        x_t = scheduler.step(torch.tanh(1.3 * x_t + t), t, x_t).prev_sample
        theirs.append(x_t)

    def denoise(x_t: Tensor, level: Level) -> Denoised:
        v = torch.tanh(1.3 * x_t + level.t)
        return Denoised(level.alpha * x_t - level.sigma * v, level.sigma * x_t + level.alpha * v)

    ours = [output.x_s for output in sample_steps(denoise, ipndm(), path, normal(0)(), normal(1))]
    assert_same(ours[:-1], theirs[:-1])  # theirs extrapolates in the step to clean data too


def their_ve_trajectory(scheduler: Any, schedule: NoiseSchedule, evaluations: int) -> list[Tensor]:
    """Theirs has y = x / sqrt(abar) as its state; x after each of its stages."""
    y, trajectory = normal(0)() / schedule.at(999).alpha, []
    for index, t in enumerate(scheduler.timesteps):
        x_t = scheduler.scale_model_input(y, t)
        y = scheduler.step(network(x_t, t.expand(3)), t, y).prev_sample
        sigma = scheduler.sigmas[index + 1]
        trajectory.append(y / (1 + sigma**2) ** 0.5)
    assert len(trajectory) == evaluations
    return trajectory


@pytest.mark.parametrize("n", [10, 20, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("kind", ["eps", "v"])
def test_euler(n: int, spacing: Spacing, kind: str, linear: NoiseSchedule) -> None:
    scheduler = EulerDiscreteScheduler(**CONFIG, prediction_type=THEIR_NAME[kind])
    steps = select_timesteps(1000, n, spacing)
    scheduler.set_timesteps(timesteps=steps)
    assert_same(our_trajectory(linear, euler(), steps, kind, False), their_ve_trajectory(scheduler, linear, n))


@pytest.mark.parametrize("n", [10, 20, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize(("kind", "clip"), [("eps", True), ("v", True), ("v", False)])
def test_heun(n: int, spacing: Spacing, kind: str, clip: bool, linear: NoiseSchedule) -> None:
    scheduler = HeunDiscreteScheduler(**CONFIG, clip_sample=clip, prediction_type=THEIR_NAME[kind])
    steps = select_timesteps(1000, n, spacing)
    scheduler.set_timesteps(timesteps=steps)
    theirs = their_ve_trajectory(scheduler, linear, 2 * n - 1)
    # Each second stage completes a step; the last step has one stage.
    assert_same(our_trajectory(linear, heun(), steps, kind, clip), [*theirs[1::2], theirs[-1]])


def test_dynamic_threshold() -> None:
    x0_hat = 2 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(2)) * torch.tensor([0.1, 1.0, 3.0]).view(3, 1, 1, 1)
    for quantile in (0.5, 0.9, 0.995, 1.0):
        scheduler = DDPMScheduler(thresholding=True, dynamic_thresholding_ratio=quantile, sample_max_value=1e9)
        torch.testing.assert_close(dynamic_threshold(quantile)(x0_hat), scheduler._threshold_sample(x0_hat))


@pytest.mark.parametrize("n", [5, 10, 20])
def test_spacings_by_noise(n: int, linear: NoiseSchedule) -> None:
    """Their sigmas are float32, and the steps that they tell the network are rounded."""
    for ours, option in ((karras_levels(linear, n), "use_karras_sigmas"), (logsnr_levels(linear, n), "use_lu_lambdas")):
        scheduler = DPMSolverMultistepScheduler(**CONFIG, **{option: True})
        scheduler.set_timesteps(n)
        assert [level.ratio for level in ours] == pytest.approx(scheduler.sigmas[:-1].tolist(), rel=1e-4)
        assert all(abs(linear.step(t) - other) < 0.51 for t, other in zip(ours, scheduler.timesteps.tolist(), strict=True))
