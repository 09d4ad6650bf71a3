"""Orders of convergence on a mixture of three Gaussians in the plane, whose best denoiser is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from exact_flow import LAMBDA, LAST, STEPS, error, even_schedule, order_of, start_and_exact_end
from levels_of_steps import levels
from noise_sources import no_noise
from plane_mixture import MEANS, WEIGHTS, best_denoise, best_x_0
from scipy.integrate import solve_ivp
from torch import Tensor

from ddpm_cli.diffusion.flows import Flow, TrigFlow
from ddpm_cli.diffusion.levels import Schedule
from ddpm_cli.diffusion.samplers.adams import deis
from ddpm_cli.diffusion.samplers.ddim import ddim
from ddpm_cli.diffusion.samplers.dpm_solver import dpm_solver
from ddpm_cli.diffusion.samplers.euler import euler
from ddpm_cli.diffusion.samplers.heun import errors_on_gaussian_data, heun
from ddpm_cli.diffusion.samplers.multistep import moments
from ddpm_cli.diffusion.samplers.unipc import unipc
from ddpm_cli.diffusion.sampling import Step, sample
from ddpm_cli.diffusion.schedules import NoiseSchedule, make_beta_schedule
from ddpm_cli.diffusion.timesteps import karras_levels, logsnr_levels

PATHS = {"tables": None, "flow": Flow(), "flow, shifted": Flow(shift=3.0), "trig-flow": TrigFlow()}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize(
    ("make", "least", "most"),
    [
        pytest.param(ddim, 0.9, 1.1, id="ddim"),
        pytest.param(euler, 0.9, 1.1, id="euler"),
        pytest.param(heun, 1.8, 2.4, id="heun"),
        pytest.param(partial(heun, along="path"), 1.8, 2.4, id="heun along the path"),
        pytest.param(partial(dpm_solver, order=1), 0.9, 1.1, id="dpm-solver++ 1"),
        pytest.param(partial(dpm_solver, order=2), 1.7, 2.3, id="dpm-solver++ 2M"),
        pytest.param(partial(dpm_solver, order=3), 2.7, 3.3, id="dpm-solver++ 3M"),
        # The corrector adds one order in the limit; order 1 keeps its published weight 1/2, and little is seen of it at 2.
        pytest.param(partial(unipc, order=1), 1.7, 2.3, id="unipc 1"),
        pytest.param(partial(unipc, order=2), 2.0, 3.2, id="unipc 2"),
        pytest.param(partial(unipc, order=3), 2.8, 4.2, id="unipc 3"),
        pytest.param(partial(deis, order=1), 0.9, 1.1, id="deis 1"),
        pytest.param(partial(deis, order=2), 1.7, 2.3, id="deis 2"),
        pytest.param(partial(deis, order=3), 2.1, 3.3, id="deis 3"),
        pytest.param(partial(unipc, order=2, variant="bh1"), 2.0, 3.2, id="unipc 2 bh1"),
    ],
)
def test_the_error_falls_with_the_order_of_the_solver(
    make: Callable[[], Step], least: float, most: float, path: Schedule | None
) -> None:
    errors = [error(make(), n, path) for n in STEPS]
    assert least < order_of(errors) < most, errors
    assert all(more > less for more, less in pairwise(errors))


def test_heun_along_a_path_is_of_order_two_from_where_no_signal_is_left() -> None:
    """In t, from 1 to 0.1; in sigma / alpha, which is infinite at 1, the first step would be Euler's."""
    path = Flow()
    x_T = torch.randn(32, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def slope(t: float, flat: np.ndarray) -> np.ndarray:
        estimate = best_denoise()(torch.from_numpy(flat).view(-1, 2), path.level(t))
        return (estimate.eps_hat - estimate.x0_hat).flatten().numpy()

    solution = solve_ivp(slope, (1.0, 0.1), x_T.flatten().numpy(), method="DOP853", rtol=1e-10, atol=1e-11)
    exact = torch.from_numpy(solution.y[:, -1]).view(-1, 2)
    errors = []
    for n in STEPS:
        x_t, step = x_T, heun(along="path")
        for t, s in pairwise(np.linspace(1.0, 0.1, n + 1).tolist()):
            x_t = step(best_denoise(), x_t, path.level(t), path.level(s), no_noise).x_s
        errors.append(float((x_t - exact).square().mean().sqrt()))
    assert 1.8 < order_of(errors) < 2.3, errors


@pytest.mark.parametrize(("order", "least", "most"), [(1, 0.9, 1.3), (2, 1.7, 2.3), (3, 2.7, 3.6)])
def test_the_sde_without_its_noise_converges_with_the_order(order: int, least: float, most: float) -> None:
    """What is left is an ODE of its own, dx / dlambda of SDE-DPM-Solver++ with the noise set to 0."""
    x_T, _ = start_and_exact_end()

    def slope(half_logsnr: float, flat: np.ndarray) -> np.ndarray:
        z = torch.from_numpy(flat).view(-1, 2)  # x / sigma * exp(lambda), of which d / dlambda is 2 * exp(2 * lambda) * x0_hat
        y = z * math.exp(-2.0 * half_logsnr)
        return (2.0 * math.exp(2.0 * half_logsnr) * best_x_0(y, math.exp(-half_logsnr))).flatten().numpy()

    first, last = levels(even_schedule(), [LAST, 0])
    start = x_T / first.sigma * math.exp(LAMBDA[-1])
    solution = solve_ivp(slope, (LAMBDA[-1], LAMBDA[0]), start.flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-13)
    exact = torch.from_numpy(solution.y[:, -1]).view(-1, 2) * last.sigma * math.exp(-LAMBDA[0])
    errors = []
    for n in STEPS:
        x_t, step, denoise = x_T, dpm_solver(order=order, sde=True), best_denoise()
        for t, s in pairwise(levels(even_schedule(), range(LAST, -1, -LAST // n))):
            x_t = step(denoise, x_t, t, s, partial(torch.zeros_like, x_T)).x_s
        errors.append(float((x_t - exact).square().mean().sqrt()))
    assert least < order_of(errors) < most, errors


@pytest.mark.parametrize("kind", ["cosine", "linear, zero terminal SNR"])
def test_spacing_by_noise_skips_what_is_noise_alone(kind: str) -> None:
    """Most steps were spent above a sigma of 164; errors on cosine were 0.126, 0.160 and 0.141, and are 0.027, 0.020 and 0.016."""
    betas = make_beta_schedule(kind.partition(",")[0], 1000)
    schedule = NoiseSchedule.from_betas(np.append(betas[:-1], 1.0) if "zero" in kind else betas)
    x_T = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = exact_images(schedule, x_T)
    path = karras_levels(schedule, 20)
    assert [path[0], path[-1]] == levels(schedule, [999, 0])
    assert sum(level.ratio > 164 for level in path) <= 2
    for make, bound in ((dpm_solver, 0.04), (heun, 0.03), (unipc, 0.03)):
        found = sample(best_denoise(), make(), path, x_T, no_noise)
        assert float((found - exact).square().mean().sqrt()) < bound
    assert karras_levels(schedule, 2) == logsnr_levels(schedule, 2) == levels(schedule, [999, 0])


def exact_images(schedule: NoiseSchedule, x_T: Tensor) -> Tensor:
    """x_0 at the end of the probability-flow ODE, in the angle of ode_likelihood, in which zero terminal SNR is nothing special."""
    angles = [math.atan2(math.sqrt(1 - abar), math.sqrt(abar)) for abar in schedule.alphas_cumprod[[-1, 0]]]

    def slope(angle: float, flat: np.ndarray) -> np.ndarray:
        x, signal, noise = torch.from_numpy(flat).view(-1, 2), math.cos(angle), math.sin(angle)
        x_0 = best_x_0(x / signal, noise / signal) if signal > 1e-9 else (WEIGHTS @ MEANS).expand_as(x)
        eps = (x - signal * x_0) / noise
        return (signal * eps - noise * x_0).flatten().numpy()

    solution = solve_ivp(slope, angles, x_T.flatten().numpy(), method="DOP853", rtol=1e-10, atol=1e-11)
    return torch.from_numpy(solution.y[:, -1]).view(-1, 2) / math.cos(angles[1])


@pytest.mark.parametrize(
    ("n", "spacing", "worse"),
    [(3, "karras", True), (5, "karras", True), (5, "logsnr", True), (10, "karras", False), (20, "logsnr", False)],
)
def test_gaussian_data_foretell_where_heun_is_ruined(n: int, spacing: str, worse: bool) -> None:
    schedule = NoiseSchedule.from_betas(make_beta_schedule("cosine", 1000))
    path = (karras_levels if spacing == "karras" else logsnr_levels)(schedule, n)
    euler_error, heun_error = errors_on_gaussian_data([level.ratio for level in path])
    assert (heun_error > euler_error) == worse
    x_T = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = exact_images(schedule, x_T)
    by = [sample(best_denoise(), make(), path, x_T, no_noise) for make in (euler, heun)]
    found = [float((images - exact).square().mean().sqrt()) for images in by]
    assert (found[1] > found[0]) == worse


def test_at_80_steps_each_order_is_better_than_the_one_below() -> None:
    by_order = [error(dpm_solver(order=order), 80) for order in (1, 2, 3)]
    assert by_order[0] > 5 * by_order[1] > 25 * by_order[2]
    assert error(unipc(), 80) < error(dpm_solver(), 80)


@pytest.mark.parametrize("h", [1e-6, 0.01, 0.3, 0.999, 1.0, 1.7, 8.0, 60.0])
def test_moments_are_the_weighted_means(h: float) -> None:
    """Against Gauss-Legendre quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    v = (nodes + 1) / 2
    density = weights * np.exp(-h * (1 - v))
    expected = [(density * v**k).sum() / density.sum() for k in (1, 2, 3)]
    assert moments(h, 3) == pytest.approx(expected, rel=1e-9)
