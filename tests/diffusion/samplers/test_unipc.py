from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from levels_of_steps import by_step, levels
from noise_sources import no_noise
from scipy.integrate import quad
from scipy.interpolate import lagrange
from torch import Tensor

from ddpm_cli.diffusion.denoise import clamp, make_denoise, predictor
from ddpm_cli.diffusion.prediction import Denoised, V
from ddpm_cli.diffusion.samplers.ddim import ddim
from ddpm_cli.diffusion.samplers.dpm_solver import dpm_solver
from ddpm_cli.diffusion.samplers.multistep import Estimate, mean_estimate
from ddpm_cli.diffusion.samplers.unipc import unipc
from ddpm_cli.diffusion.sampling import sample, sample_steps
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.errors import RequestError


def estimates_by_step(schedule: NoiseSchedule, estimates: dict[int, float]) -> tuple[list[int], Any]:
    seen: list[int] = []

    def denoise(x_t: Tensor, t: int) -> Denoised:
        seen.append(t)
        return Denoised(torch.full_like(x_t, estimates[t]), x_t)

    return seen, by_step(schedule, denoise)


@pytest.mark.parametrize("others", [[-1.3, -0.4], [-1.3, 0.9], [-2.0, -0.4, 0.9]])
def test_the_mean_is_the_integral_of_the_polynomial(others: list[float]) -> None:
    """Two or three points beside the start, against Lagrange's polynomial integrated by adaptive quadrature."""
    start, end = 0.0, 0.9
    nodes = np.array([start, *others])
    values = np.sin(3 * nodes)
    polynomial = lagrange(nodes, values)
    expected = quad(lambda x: np.exp(x - end) * polynomial(x), start, end)[0] / quad(lambda x: np.exp(x - end), start, end)[0]
    first, *rest = [Estimate(float(x), torch.tensor([y])) for x, y in zip(nodes, values, strict=True)]
    assert mean_estimate(first, rest, end).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_predictor_is_dpm_solver(order: int, linear: NoiseSchedule) -> None:
    """Where the estimates do not depend on x_t, the corrections show in the state and not in the estimates."""
    seen, denoise = estimates_by_step(linear, {999: 0.3, 700: -0.2, 400: 0.5, 100: 0.1})
    ours, theirs = unipc(order=order), dpm_solver(order=order)
    x_t, path = torch.ones(1, dtype=torch.float64), levels(linear, [999, 700])
    torch.testing.assert_close(
        ours(denoise, x_t, *path, no_noise).x_s, theirs(denoise, x_t, *path, no_noise).x_s, rtol=1e-12, atol=0
    )
    assert seen == [999, 999]


def test_each_step_evaluates_the_network_once_and_corrects_the_step_before(linear: NoiseSchedule) -> None:
    seen, denoise = estimates_by_step(linear, {999: 0.3, 700: -0.2, 400: 0.5})
    step, (last, second, third) = unipc(), levels(linear, [999, 700, 400])
    x_700 = step(denoise, torch.ones(1, dtype=torch.float64), last, second, no_noise).x_s
    x_400 = step(denoise, x_700, second, third, no_noise).x_s
    assert seen == [999, 700]

    # The corrector of the first step takes the mean of the two estimates (order 1, weight 1/2).
    _, mean = estimates_by_step(linear, {999: (0.3 - 0.2) / 2})
    corrected = dpm_solver()(mean, torch.ones(1, dtype=torch.float64), last, second, no_noise).x_s
    predictor_step = dpm_solver()
    predictor_step(denoise, torch.ones(1, dtype=torch.float64), last, second, no_noise)
    expected = predictor_step(denoise, corrected, second, third, no_noise).x_s
    torch.testing.assert_close(x_400, expected, rtol=1e-12, atol=0)
    assert not torch.allclose(corrected, x_700)


def test_a_new_trajectory_needs_a_new_sampler(linear: NoiseSchedule) -> None:
    denoise = make_denoise(predictor(lambda x, t: torch.tanh(x), linear, V()), linear, threshold=clamp)
    x_T = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    step, path = unipc(order=3), levels(linear, [999, 700, 400, 100, 0])
    first = sample(denoise, step, path, x_T, no_noise)
    assert torch.equal(sample(denoise, unipc(order=3), path, x_T, no_noise), first)
    with pytest.raises(ValueError, match="one trajectory"):
        sample(denoise, step, path, x_T, no_noise)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("make", [unipc, dpm_solver])
def test_zero_terminal_snr_starts_with_ddim_and_gives_finite_images(make: Any, order: int) -> None:
    schedule = NoiseSchedule.from_betas(np.append(np.linspace(0.01, 0.2, 40), 1.0))
    denoise = make_denoise(predictor(lambda x, t: torch.tanh(x), schedule, V()), schedule, threshold=clamp)
    x_T = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    path = levels(schedule, [40, 30, 20, 10, 0])
    outputs = list(sample_steps(denoise, make(order=order), path, x_T, no_noise))
    assert all(output.x_s.isfinite().all() for output in outputs)
    torch.testing.assert_close(outputs[0].x_s, ddim()(denoise, x_T, *path[:2], no_noise).x_s)


@pytest.mark.parametrize("order", [4, 0])
def test_orders_that_dpm_solver_lacks_are_refused(order: int) -> None:
    with pytest.raises(RequestError, match=str(order)):
        dpm_solver(order=order)  # type: ignore[arg-type]


def test_the_variants_of_unipc_differ_in_steps_that_are_short_by_little(linear: NoiseSchedule) -> None:
    """B(h) of the two is the same to first order in h."""
    denoise = make_denoise(predictor(lambda x, t: torch.tanh(x), linear, V()), linear, threshold=clamp)
    x_T = torch.randn(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def difference(steps: list[int]) -> float:
        path = levels(linear, steps)
        first, second = (sample(denoise, unipc(variant=variant), path, x_T, no_noise) for variant in ("bh1", "bh2"))
        return float((first - second).abs().max())

    assert 0 < 5 * difference(list(range(999, 0, -20))) < difference([999, 700, 400, 100])
