from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
from levels_of_steps import levels

from ddpm_cli.diffusion.schedules import NoiseSchedule, make_beta_schedule
from ddpm_cli.diffusion.timesteps import Spacing, karras_levels, logsnr_levels, select_timesteps
from ddpm_cli.errors import ScheduleError

SPACINGS = get_args(Spacing)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("timesteps", [1, 2, 3, 7, 10, 97, 250])
def test_any_number_of_steps_descends_strictly_from_the_last(timesteps: int, spacing: Spacing) -> None:
    for n in range(1, timesteps + 1):
        steps = select_timesteps(timesteps, n, spacing)
        assert len(steps) == n
        assert steps[0] == timesteps - 1
        assert steps[-1] >= 0
        assert all(t > s for t, s in pairwise(steps))


@pytest.mark.parametrize("spacing", SPACINGS)
def test_all_steps_are_all_steps(spacing: Spacing) -> None:
    everything = list(range(999, -1, -1))
    assert select_timesteps(1000, None, spacing) == everything
    assert select_timesteps(1000, 1000, spacing) == everything


@pytest.mark.parametrize("spacing", SPACINGS)
def test_one_step_is_the_noisiest(spacing: Spacing) -> None:
    assert select_timesteps(1000, 1, spacing) == [999]


def test_ten_steps_of_each_spacing() -> None:
    """The first two rows are Lin et al. 2024, Table 2, but for the first step of "leading", see PITFALL 1."""
    assert select_timesteps(1000, 10, "leading") == [999, 800, 700, 600, 500, 400, 300, 200, 100, 0]
    assert select_timesteps(1000, 10, "trailing") == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]
    assert select_timesteps(1000, 10, "linspace") == [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]


@pytest.mark.parametrize("n", [3, 7, 30, 50, 333, 999])
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_steps_equal_those_of_diffusers(spacing: Spacing, n: int) -> None:
    from diffusers import DDIMScheduler

    reference = DDIMScheduler(1000, timestep_spacing=spacing)
    reference.set_timesteps(n)
    assert select_timesteps(1000, n, spacing) == reference.timesteps.tolist()


@pytest.mark.parametrize("steps", [0, -1, 11])
def test_steps_outside_of_the_schedule_are_refused(steps: int) -> None:
    with pytest.raises(ScheduleError, match=str(steps)) as caught:
        select_timesteps(10, steps, "trailing")
    assert "1 to 10" in caught.value.remedy


BY_NOISE = [logsnr_levels, karras_levels, lambda schedule, n: karras_levels(schedule, n, rho=1.0)]


@pytest.mark.parametrize("select", BY_NOISE)
@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("timesteps", [1, 2, 3, 10, 97])
@pytest.mark.parametrize("last_beta", [None, 1.0])
def test_any_number_of_steps_by_noise(timesteps: int, kind: str, select: Any, last_beta: float | None) -> None:
    betas = make_beta_schedule(kind, timesteps)
    if last_beta is not None:
        betas[-1] = last_beta
    schedule = NoiseSchedule.from_betas(betas)
    for n in range(1, timesteps + 1):
        path = select(schedule, n)
        assert len(path) == n
        assert path[0] == schedule.at(timesteps - 1)
        assert n == 1 or path[-1] == schedule.at(0)
        assert all(t.t > s.t and t.ratio > s.ratio for t, s in pairwise(path))
    assert select(schedule, None) == levels(schedule, range(timesteps - 1, -1, -1))


@pytest.mark.parametrize(
    ("select", "scale"),
    [
        (logsnr_levels, np.log),
        (karras_levels, lambda sigma: sigma ** (1 / 7)),
        (lambda schedule, n: karras_levels(schedule, n, rho=3.0), lambda sigma: sigma ** (1 / 3)),
    ],
)
def test_steps_by_noise_are_even_on_their_own_scale(select: Any, scale: Any, linear: NoiseSchedule) -> None:
    path = select(linear, 12)
    ends = scale(linear.sigmas[[-1, 0]])
    assert scale(np.array([level.ratio for level in path])) == pytest.approx(np.linspace(*ends, 12), rel=1e-9)


@pytest.mark.parametrize("select", [logsnr_levels, karras_levels])
def test_steps_by_noise_outside_of_the_schedule_are_refused(select: Any, linear: NoiseSchedule) -> None:
    for steps in (0, 1001):
        with pytest.raises(ScheduleError, match=str(steps)):
            select(linear, steps)


def near(select: Any, schedule: NoiseSchedule, steps: list[int]) -> bool:
    path = select(schedule, 6, max_sigma=None)
    return all(abs(schedule.step(level) - step) < 1.5 for level, step in zip(path, steps, strict=True))


BEFORE = {
    "karras cosine": [999, 998, 997, 993, 837, 0],
    "logsnr cosine": [999, 998, 986, 760, 73, 0],
    "karras to noise": [999, 998, 842, 592, 141, 0],
    "logsnr to noise": [999, 998, 721, 301, 30, 0],
}


def test_without_a_bound_levels_are_those_of_earlier_versions_but_for_their_rounding() -> None:
    """Of a cosine schedule and of one that ends in noise alone; where two fell on one step, one was moved to the next."""
    cosine = NoiseSchedule.from_betas(make_beta_schedule("cosine", 1000))
    to_noise = NoiseSchedule.from_betas(np.append(make_beta_schedule("linear", 1000)[:-1], 1.0))
    assert near(karras_levels, cosine, BEFORE["karras cosine"])
    assert near(logsnr_levels, cosine, BEFORE["logsnr cosine"])
    assert near(karras_levels, to_noise, BEFORE["karras to noise"])
    assert near(logsnr_levels, to_noise, BEFORE["logsnr to noise"])
