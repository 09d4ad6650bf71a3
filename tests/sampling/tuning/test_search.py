"""The search on distances whose least is known."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.schema.sample import DdimSampler, IpndmSampler, SamplerBase
from ddpm_cli.config.schema.schedule import CosineSchedule, LinearSchedule
from ddpm_cli.sampling.tuning.search import (
    KEPT,
    MOST_STEPS,
    MOVES,
    SOLVERS,
    along,
    most_trials,
    search,
    starting_lists,
    timesteps_of,
)

SCHEDULE = build_schedule(CosineSchedule())
IDEAL = (999, 911, 758, 451, 130)


def from_ideal(sampler: SamplerBase, ideal: tuple[int, ...] = IDEAL) -> float:
    """How far its steps are from the ideal ones; solvers other than iPNDM of order 4 are worse at the same steps."""
    worse = 0.0 if sampler == along(IpndmSampler(order=4), timesteps_of(sampler)) else 10.0
    return worse + sum(abs(t - best) for t, best in zip(timesteps_of(sampler), ideal, strict=True))


def test_the_ideal_steps_and_solver_are_found_to_within_the_last_move() -> None:
    best = min(search(from_ideal, SCHEDULE, len(IDEAL)), key=lambda found: found.distance)
    assert isinstance(best.sampler, IpndmSampler)
    assert best.sampler.order == 4
    assert all(abs(t - ideal) <= MOVES[-1] for t, ideal in zip(timesteps_of(best.sampler), IDEAL, strict=True))


def test_no_trial_breaks_the_order_and_there_are_no_more_than_told() -> None:
    tried: list[tuple[int, ...]] = []

    def distance(sampler: SamplerBase) -> float:
        tried.append(timesteps_of(sampler))
        return from_ideal(sampler, (999, 998, 997, 1, 0))  # where steps run into each other and into the ends

    found = search(distance, SCHEDULE, 5)
    assert len(found) == 2 * KEPT
    assert len(tried) <= most_trials(5)
    assert all(steps[0] == 999 and all(t > s for t, s in pairwise([*steps, -1])) for steps in tried)


def test_each_solver_is_tried_and_the_closest_go_on_from_where_they_started() -> None:
    seen: set[tuple[str, int]] = set()

    def distance(sampler: SamplerBase) -> float:
        seen.add((sampler.kind, getattr(sampler, "order", 1)))
        return from_ideal(sampler) + (0.0 if isinstance(sampler, DdimSampler) else 1000.0)

    found = search(distance, SCHEDULE, 5)
    assert len(seen) == len(SOLVERS)
    assert isinstance(found[0].sampler, DdimSampler)
    for start, end in zip(found[::2], found[1::2], strict=True):
        assert type(start.sampler) is type(end.sampler)
        assert end.distance < start.distance


@pytest.mark.parametrize("T", [2, 7, 50, 1000])
@pytest.mark.parametrize("steps", [2, 3, 10, MOST_STEPS])
def test_lists_to_start_with_are_lists_of_steps_from_the_last_on(T: int, steps: int) -> None:
    if steps > T:
        pytest.skip("there are not so many")
    for schedule in (CosineSchedule(timesteps=T), LinearSchedule(timesteps=T)):
        lists = starting_lists(build_schedule(schedule), steps)
        for timesteps in lists:
            along(DdimSampler(), timesteps).prepare(build_schedule(schedule))  # refuses what does not descend
            assert (len(timesteps), timesteps[0]) == (steps, T - 1)
            assert timesteps[-1] >= 0
        assert len({tuple(timesteps) for timesteps in lists}) == len(lists)
