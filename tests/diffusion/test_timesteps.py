from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest

from ddpm_cli.diffusion.timesteps import Spacing, select_timesteps
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
