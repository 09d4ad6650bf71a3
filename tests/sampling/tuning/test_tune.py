"""Tuning on Gaussian data, of which the best denoiser and the ends of trajectories are known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest
import torch
from gaussian_data import COVARIANCE, MEAN, SHAPE, best_denoise
from torch import Tensor
from trained_models import trained_model

from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.schema.sample import (
    DdimSampler,
    DdpmSampler,
    DpmSolverSampler,
    HeunSampler,
    IpndmSampler,
    ListSpacing,
    LogsnrSpacing,
    SamplerBase,
    TrailingSpacing,
    UnipcSampler,
)
from ddpm_cli.config.schema.schedule import CosineSchedule
from ddpm_cli.errors import ScheduleError
from ddpm_cli.results.events import EvaluateProgress, Event
from ddpm_cli.sampling.tuning.search import most_trials
from ddpm_cli.sampling.tuning.store import sampler_of
from ddpm_cli.sampling.tuning.tune import Ends, choose, demand_of, tune, usual_sampler

SCHEDULE = build_schedule(CosineSchedule())


def noises(seed: int, images: int = 64) -> Tensor:
    return torch.randn(images, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def exact_ends(x_T: Tensor) -> Tensor:
    """Where the ODE ends: along each principal axis of the data the deviation from the mean keeps its number of deviations."""
    last = SCHEDULE.at(SCHEDULE.timesteps - 1)
    values, axes = torch.linalg.eigh(COVARIANCE)
    scaled = (x_T.flatten(1) - last.alpha * MEAN) @ axes / (last.signal * values + last.noise).sqrt()
    return (MEAN + scaled * values.sqrt() @ axes.T).view_as(x_T)


def ends(seed: int) -> Ends:
    return Ends.of(SCHEDULE, [(best_denoise(), noises(seed))])


class Exact(Ends):
    """The distance from the exact ends, which tuning knows nothing of."""

    def __init__(self, seed: int) -> None:
        self.x_T = noises(seed)

    def distance(self, sampler: SamplerBase) -> float:
        from ddpm_cli.diffusion.sampling import sample

        step, levels = sampler.prepare(SCHEDULE)
        found = sample(best_denoise(), step, levels, self.x_T, lambda: torch.zeros_like(self.x_T))
        return float((found - exact_ends(self.x_T)).flatten(1).square().mean(1).sqrt().mean())


class Measured(Ends):
    """Distances that a test chooses."""

    def __init__(self, measure: Callable[[SamplerBase], float]) -> None:
        self.distance = measure  # type: ignore[method-assign]


def test_a_distance_is_the_mean_over_images_of_the_root_mean_square_from_the_exact_end() -> None:
    for sampler in (DdimSampler(steps=6), UnipcSampler(steps=8)):
        assert ends(3).distance(sampler) == pytest.approx(Exact(3).distance(sampler), abs=2e-3)
    assert Exact(3).distance(DdimSampler(steps=1000)) < 2e-3


@pytest.mark.parametrize("steps", [3, 5, 8])
def test_tuned_steps_come_closer_to_the_exact_ends_than_uniform_ones_of_any_solver(steps: int) -> None:
    found = choose(steps, ends(0), ends(1), SCHEDULE, DpmSolverSampler())
    exact = Exact(2)
    tuned = exact.distance(sampler_of(found.sampler))
    assert found.distance == pytest.approx(tuned, rel=0.2, abs=2e-3)  # which no noise of the search has part in
    solvers = (DdimSampler, DpmSolverSampler, UnipcSampler, IpndmSampler)
    uniform = [exact.distance(solver(steps=steps, spacing=TrailingSpacing())) for solver in solvers]
    assert tuned < 0.9 * min(uniform)
    assert found.untuned_distance == pytest.approx(uniform[1], rel=0.25)


def test_other_noises_decide_and_give_the_distance() -> None:
    searched, held_out = ends(0), ends(1)

    def favouring(kind: str) -> Ends:
        return Measured(lambda sampler: (0.0 if sampler.kind == kind else 1.0) + searched.distance(sampler))

    found = choose(4, searched, held_out, SCHEDULE, DpmSolverSampler())
    assert found.distance == held_out.distance(sampler_of(found.sampler))
    assert found.distance != searched.distance(sampler_of(found.sampler))
    others = {choose(4, searched, favouring(kind), SCHEDULE, DpmSolverSampler()).sampler["kind"] for kind in ("unipc", "ipndm")}
    assert others == {"unipc", "ipndm"}


def test_it_is_never_worse_than_what_is_untuned() -> None:
    trailing = ends(1).distance(DdimSampler(steps=4))
    searched = Measured(lambda sampler: -abs(ends(1).distance(sampler) - trailing))  # away from trailing steps
    held_out = Measured(lambda sampler: abs(ends(1).distance(sampler) - trailing))
    found = choose(4, searched, held_out, SCHEDULE, DdimSampler())
    assert found.distance == found.untuned_distance == 0.0
    assert found.sampler["spacing"] == {"kind": "list", "timesteps": [999, 749, 499, 249]}


MODEL = trained_model("schedule.timesteps=40", "model.num_classes=3", "sample.batch_size=5", "sample.guidance.scale=2")


def test_tuning_follows_from_the_seed_and_no_batch_size() -> None:
    one, again = (asdict(tune(MODEL, [3], images=4)) for _ in range(2))
    whole = MODEL.config.sample.model_copy(update={"batch_size": 64})
    at_once = asdict(tune(MODEL, [3], whole, images=4))
    other = asdict(tune(MODEL, [3], images=4, seed=1))
    for found in (one, again, at_once, other):
        del found["created"]
    assert one == again
    assert one["samplers"][0]["distance"] == pytest.approx(at_once["samplers"][0]["distance"], rel=1e-4)
    assert one["samplers"][0]["distance"] != other["samplers"][0]["distance"]
    assert (one["step"], one["ema"], one["images"], one["held_out"], one["guidance"]["scale"]) == (3, True, 4, 8, 2.0)


def test_guidance_changes_what_it_is_tuned_to() -> None:
    plain = MODEL.config.sample.model_copy(update={"guidance": MODEL.config.sample.guidance.model_copy(update={"scale": 1.0})})
    guided, unguided = tune(MODEL, [2], images=2), tune(MODEL, [2], plain, images=2)
    assert guided.samplers[0].untuned_distance != unguided.samplers[0].untuned_distance


def test_progress_ends_at_its_total_and_each_number_of_steps_has_its_own() -> None:
    told: list[EvaluateProgress] = []

    def listen(event: Event) -> None:
        if isinstance(event, EvaluateProgress):
            told.append(event)

    found = tune(MODEL, [3, 2, 3], images=2, on_event=listen)
    assert [tuned.steps for tuned in found.samplers] == [2, 3]
    for steps in (2, 3):
        own = [event for event in told if event.metric == f"{steps} steps"]
        assert [event.done for event in own[:-1]] == list(range(1, len(own)))
        assert own[-1].done == own[-1].total
        assert own[-2].done <= most_trials(steps)


def test_more_steps_than_the_schedule_has_are_refused() -> None:
    with pytest.raises(ScheduleError, match="cannot take 41 steps in a schedule of 40"):
        tune(MODEL, [2, 41], images=2)


def test_what_it_takes_is_reckoned_no_lower_than_it_is() -> None:
    evaluated = 0

    def count(module: object, arguments: tuple[Tensor, ...], output: object) -> None:
        nonlocal evaluated
        evaluated += len(arguments[0])

    plain = trained_model("schedule.timesteps=40")
    hook = plain.network.register_forward_hook(count)
    tune(plain, [2, 5], images=3)
    hook.remove()
    demand = demand_of(plain, [2, 5], 3)
    assert evaluated <= demand.images * demand.evaluations <= 4 * evaluated


@pytest.mark.parametrize(
    ("own", "usual"),
    [
        (UnipcSampler(order=3), UnipcSampler(order=3, steps=4)),
        (DdimSampler(spacing=LogsnrSpacing()), DdimSampler(spacing=LogsnrSpacing(), steps=4)),
        (IpndmSampler(spacing=ListSpacing(timesteps=(39, 3))), IpndmSampler(steps=4)),
        (DdimSampler(eta=0.5), DpmSolverSampler(steps=4)),
        (DpmSolverSampler(sde=True, order=3), DpmSolverSampler(steps=4)),
        (DdpmSampler(), DpmSolverSampler(steps=4)),
        (HeunSampler(), DpmSolverSampler(steps=4)),
    ],
)
def test_what_is_usual_is_the_models_own_where_that_follows_the_ode(own: SamplerBase, usual: SamplerBase) -> None:
    assert usual_sampler(own, 4) == usual


@pytest.mark.parametrize(
    "sets",
    [
        ("objective.parameterization=eps", "sample.sampler=ddpm"),
        ("objective.parameterization=edm", "objective.timesteps=log-normal"),
        ("objective.parameterization=v", "schedule.zero_terminal_snr=true"),
        ("objective.loss=hybrid", "sample.threshold=dynamic"),
    ],
)
def test_any_kind_of_model_is_tuned_to_steps_that_it_can_take(sets: tuple[str, ...]) -> None:
    trained = trained_model("schedule.timesteps=12", *sets)
    (found,) = tune(trained, [3], images=2).samplers
    levels = sampler_of(found.sampler).prepare(trained.schedule)[1]
    assert levels[0] == trained.schedule.at(11)
    assert len(levels) == 3
    assert 0 < found.distance <= found.untuned_distance
