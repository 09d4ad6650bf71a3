"""Search the solver and the list of steps whose images come closest to given ones, for one number of network evaluations.

Which steps a solver of few steps should visit depends on the model (Watson et al. 2021; Sabour et al. 2024, Align Your Steps). Here
they are moved one by one as long as the images themselves come closer, which is coordinate search (Hooke & Jeeves 1961). Imports
no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ddpm_cli.config.schema.sample import (
    DdimSampler,
    DeisSampler,
    DpmSolverSampler,
    IpndmSampler,
    ListSpacing,
    LogsnrSpacing,
    TrailingSpacing,
    UnipcSampler,
)

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import SamplerBase
    from ddpm_cli.diffusion.levels import Schedule

LEAST_STEPS, MOST_STEPS = 2, 50
"""Of a sampler that is tuned. One step has nothing to choose: it begins at T-1, and ends at the image."""
SOLVERS: tuple[SamplerBase, ...] = (
    DdimSampler(),
    DpmSolverSampler(order=2),
    DpmSolverSampler(order=3),
    UnipcSampler(order=2),
    UnipcSampler(order=3),
    DeisSampler(order=2),
    DeisSampler(order=3),
    IpndmSampler(order=2),
    IpndmSampler(order=3),
    IpndmSampler(order=4),
)
"""Those that add no noise, and evaluate the network once in each step."""
KEPT = 3
"""Solvers whose steps are searched: those that come closest before."""
MOVES = (32, 16, 8, 4)
"""Parts of a 1000th of T by which a step is moved, one after another."""
ROUNDS = 2
"""How often all steps are moved by each of them, at most."""

Distance = Callable[["SamplerBase"], float]
"""From the images of a sampler to those that it is to come close to; at least 0."""


@dataclass(frozen=True)
class Candidate:
    """Hold a sampler that visits listed steps.

    Attributes:
        sampler: It.
        distance: Of its images, with the noises of the search.
    """

    sampler: SamplerBase
    distance: float


def along(solver: SamplerBase, timesteps: Sequence[int]) -> SamplerBase:
    """Let a solver visit the steps of a list."""
    return solver.model_copy(update={"steps": None, "spacing": ListSpacing(timesteps=tuple(timesteps))})


def starting_lists(schedule: Schedule, steps: int) -> list[list[int]]:
    """List so many steps as usual, evenly spaced in t or in log SNR; and along a cosine, with more of them at both ends.

    Args:
        schedule: The model's.
        steps: From 2 to T.
    Returns:
        Lists of strictly descending steps from T-1 on.
    """
    last = schedule.timesteps - 1
    usual = [DdimSampler(steps=steps, spacing=spacing) for spacing in (TrailingSpacing(), LogsnrSpacing())]
    lists = [list(timesteps_of(on_whole_steps(sampler, schedule))) for sampler in usual]
    lists.append(_whole([last * (1 + math.cos(math.pi * i / steps)) / 2 for i in range(steps)], last))
    return [timesteps for place, timesteps in enumerate(lists) if timesteps not in lists[:place]]


def on_whole_steps(sampler: SamplerBase, schedule: Schedule) -> SamplerBase:
    """Let a sampler list the steps of the schedule that it visits, or those nearest to the levels between them."""
    _, levels = sampler.prepare(schedule)
    return along(sampler, _whole([float(schedule.step(level)) for level in levels], schedule.timesteps - 1))


def _whole(steps: Sequence[float], last: int) -> list[int]:
    """Round steps, and move those apart that fall on one."""
    found = [last]
    for step in steps[1:]:
        found.append(min(round(step), found[-1] - 1))
    for place, least in enumerate(reversed(range(len(found)))):  # as many steps must find room below
        found[place] = max(found[place], least)
    return found


def most_trials(steps: int) -> int:
    """Bound how many samplers of so many steps are tried."""
    return 3 * len(SOLVERS) + KEPT * _most_moves(steps)


def _most_moves(steps: int) -> int:
    return len(MOVES) * ROUNDS * (2 * (steps - 1) + 1)


def search(distance: Distance, schedule: Schedule, steps: int) -> list[Candidate]:
    """Search the steps that bring a solver's images closest, for the solvers that come closest with usual ones.

    Args:
        distance: To be made small.
        schedule: The model's.
        steps: How many, from LEAST_STEPS to MOST_STEPS and at most T. The first is always T-1.
    Returns:
        KEPT pairs: each solver with the steps that it started with, and then with those that were found. One that comes close with
        the noises of the search may do so by chance: which one to take, other noises have to decide.
    """
    starts = [_closest(distance, [along(solver, ts) for ts in starting_lists(schedule, steps)]) for solver in SOLVERS]
    kept = sorted(starts, key=lambda start: start.distance)[:KEPT]
    return [found for start in kept for found in (start, _moved(distance, start, schedule.timesteps))]


def _closest(distance: Distance, samplers: Sequence[SamplerBase]) -> Candidate:
    return min((Candidate(sampler, distance(sampler)) for sampler in samplers), key=lambda found: found.distance)


def timesteps_of(sampler: SamplerBase) -> tuple[int, ...]:
    """Read the steps that a sampler's spacing lists; none if it lists none."""
    return (sampler.spacing.timesteps or ()) if isinstance(sampler.spacing, ListSpacing) else ()


def _moved(distance: Distance, start: Candidate, T: int) -> Candidate:
    """Move the steps below the first one by less and less, as long as that brings the images closer."""
    best = start
    for move in dict.fromkeys(max(1, round(move * T / 1000)) for move in MOVES):
        for _ in range(ROUNDS):
            before = best
            for place in range(1, len(timesteps_of(best.sampler))):
                best = _with_step_moved(distance, best, place, move)
            if best is before:
                break
            best = _gone_on(distance, before, best)
    return best


def _with_step_moved(distance: Distance, best: Candidate, place: int, move: int) -> Candidate:
    """Try one step higher, and if that is no better, lower."""
    for by in (move, -move):
        timesteps = list(timesteps_of(best.sampler))
        timesteps[place] += by
        better = _better(distance, best, timesteps)
        if better is not best:
            return better
    return best


def _gone_on(distance: Distance, before: Candidate, best: Candidate) -> Candidate:
    """Move all steps once more as they were moved together: what is best for one of them depends on the others."""
    pairs = zip(timesteps_of(before.sampler), timesteps_of(best.sampler), strict=True)
    return _better(distance, best, [now + (now - then) for then, now in pairs])


def _better(distance: Distance, best: Candidate, timesteps: Sequence[int]) -> Candidate:
    """Take the solver with these steps, if they are some and bring its images closer."""
    if any(t <= s for t, s in pairwise([*timesteps, -1])):
        return best
    sampler = along(best.sampler, timesteps)
    tried = Candidate(sampler, distance(sampler))
    return tried if tried.distance < best.distance else best
