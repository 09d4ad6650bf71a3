"""Put the figures of arms beside each other only where they were measured the same way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ddpm_cli.config.schema.schedule import LearnedSchedule
from ddpm_cli.experiments.arms import Repeats
from ddpm_cli.metrics.registry import direction_of
from ddpm_cli.metrics.verdicts import judge
from ddpm_cli.results.comparison import Apart, ArmFigures, Measure, Run, Verdict
from ddpm_cli.sampling.drawing import NO_OPTIONS, drawing_facts, with_learned_variance

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.results.figure import StoredFigure
    from ddpm_cli.runs.record import RunRecord

OWN = "each run's own"
OBJECTIVES = Verdict("not comparable", "losses of different objectives, not comparable")
FINDINGS = ("flagged_in_", "median_distance_in_")  # details of a figure that say what was found, not how
OF_THE_OBJECTIVE = ("loss-per-timestep",)
OTHER_IMAGES = Verdict("not comparable", "losses of other images, not comparable")

Conditions = dict[str, Any]


def loss_measures(arms: Sequence[Repeats], baseline: str) -> list[Measure]:
    """Compare final and best losses; those of different objectives get no verdict."""
    reference = next(arm for arm in arms if arm.name == baseline)
    measures = []
    for metric, value in LOSSES.items():
        figures = [ArmFigures(arm.name, _values(arm, value), _obstacle(metric, arm, reference)) for arm in arms]
        if any(arm.values for arm in figures):
            measures.append(_measure(metric, {}, figures, baseline))
    return measures


LOSSES: dict[str, Callable[[Run], float | None]] = {
    "training loss": lambda run: run.last("loss"),
    "held-out loss": lambda run: run.last("held_out_loss"),
    "best held-out loss": lambda run: run.best("held_out_loss"),
}


def _values(arm: Repeats, value: Callable[[Run], float | None]) -> dict[str, float]:
    return {record.run.name: found for record in arm.counted if (found := value(record.run)) is not None}


def _measure(metric: str, conditions: Conditions, figures: Sequence[ArmFigures], baseline: str) -> Measure:
    better = "lower" if metric in LOSSES else direction_of(metric)
    verdicts = judge(better, figures, baseline) if len(figures) > 1 else []
    return Measure(metric, conditions, tuple(figures), tuple(verdicts))


# ----------------------------------------------------------------------------------------------------------- objectives


def _obstacle(metric: str, arm: Repeats, reference: Repeats) -> Verdict | None:
    """Losses are the same quantity only under one objective and on the same images."""
    if arm is reference:
        return _unfinished(arm)
    one, other = arm.records[0], reference.records[0]
    if not _same_objective(arm, reference):
        return OBJECTIVES
    if metric == "training loss" and _draws(one.config) != _draws(other.config):
        return OBJECTIVES
    images = _trained_on if metric == "training loss" else _held_out
    return _unfinished(arm) if images(one) == images(other) else OTHER_IMAGES


def _unfinished(arm: Repeats) -> Verdict | None:
    return None if arm.finished else Verdict("cannot be told", f"cannot be told: no run of {arm.name} is finished")


def _same_objective(arm: Repeats, reference: Repeats) -> bool:
    one, other = arm.records[0].config, reference.records[0].config
    return arm is reference or (_objective(one) == _objective(other) and not _learns_its_objective(one))


def _objective(config: Config) -> Conditions:
    objective = config.objective
    return {
        "schedule": config.schedule,
        "parameterization": objective.parameterization,
        "loss": objective.loss,
        "weighting": objective.weighting.told,
        "variance": objective.reverse_variance if objective.loss.is_bound else None,
    }


def _draws(config: Config) -> tuple[Any, ...]:
    """What the training loss is a mean over, beside images; the held-out loss is of noise as it comes, whatever training draws."""
    objective = config.objective
    return objective.timesteps, objective.label_dropout, objective.coupling, objective.noise_candidates


def _learns_its_objective(config: Config) -> bool:
    """A learned schedule moves the noise levels at which L_simple is taken, in each run its own way; the bound it leaves alone."""
    return isinstance(config.schedule, LearnedSchedule) and config.objective.loss.is_weighted


def _trained_on(record: RunRecord) -> tuple[Any, ...]:
    data = record.config.data
    return record.data_sha256, data.horizontal_flip, data.augment, data.augment_by if data.augment else ()


def _held_out(record: RunRecord) -> tuple[Any, ...]:
    data = record.config.data.model_dump(exclude={"limit", "horizontal_flip", "augment", "augment_by", "root"})
    return record.held_out, data, record.config.train.eval_images


# -------------------------------------------------------------------------------------------------------------- figures


def figure_measures(arms: Sequence[Repeats], baseline: str) -> tuple[list[Measure], list[Apart]]:
    """Compare what was measured of the runs: figures that can be put beside each other, and those that cannot.

    They can where metric, number of images, reference, extractor, sampler and all other conditions are equal; or where the
    sampler differs because each run was measured with its own, as its config says it.
    """
    found = [(arm, record, stored) for arm in arms for record in arm.counted for stored in record.figures]
    measures, rest = _grouped(found, lambda record, stored: _conditions(stored), arms, baseline)
    own, apart = _grouped(rest, lambda record, stored: _with_own(_conditions(stored), record.config), arms, baseline)
    return [*measures, *own], [Apart(r.run.name, s.figure.metric, s.figure.value, _conditions(s)) for _, r, s in apart]


_Found = tuple[Repeats, "RunRecord", "StoredFigure"]


def _grouped(
    found: Iterable[_Found],
    conditions: Callable[[RunRecord, StoredFigure], Conditions],
    arms: Sequence[Repeats],
    baseline: str,
) -> tuple[list[Measure], list[_Found]]:
    groups: dict[str, list[_Found]] = {}
    for item in found:
        key = json.dumps([item[2].figure.metric, conditions(item[1], item[2])], sort_keys=True)
        groups.setdefault(key, []).append(item)
    measures, rest = [], []
    for group in groups.values():
        if _beside_each_other(group, arms):
            measures.append(_figure_measure(group, conditions(group[0][1], group[0][2]), arms, baseline))
        else:
            rest += group
    return measures, rest


def _figure_measure(group: Sequence[_Found], conditions: Conditions, arms: Sequence[Repeats], baseline: str) -> Measure:
    first, *others = [stored.figure for _, _, stored in group]
    reference = next(arm for arm in arms if arm.name == baseline)
    figures = [
        ArmFigures(arm.name, _newest(item for item in group if item[0] is arm), _figure_obstacle(first.metric, arm, reference))
        for arm in arms
    ]
    floor = first.floor if all(other.floor == first.floor for other in others) else None
    notes = tuple(note for note in first.notes if all(note in other.notes for other in others))
    return replace(_measure(first.metric, conditions, figures, baseline), floor=floor, notes=notes)


def _figure_obstacle(metric: str, arm: Repeats, reference: Repeats) -> Verdict | None:
    other_loss = metric in OF_THE_OBJECTIVE and not _same_objective(arm, reference)
    return OBJECTIVES if other_loss else _unfinished(arm)


def _beside_each_other(group: Sequence[_Found], arms: Sequence[Repeats]) -> bool:
    several = {record.run.name for _, record, _ in group} if len(arms) == 1 else {arm.name for arm, _, _ in group}
    return len(several) > 1


def _newest(group: Iterable[_Found]) -> dict[str, float]:
    """The figure of each run: of its newest checkpoint, over the most repeats, measured last."""
    ordered = sorted(group, key=lambda item: (item[2].step, item[2].figure.repeats, item[2].created))
    return {record.run.name: stored.figure.value for _, record, stored in ordered}


def _conditions(stored: StoredFigure) -> Conditions:
    figure = stored.figure
    facts: Conditions = {"n": figure.n, "data": figure.data, "split": figure.split, "sha256": figure.sha256}
    details = {name: value for name, value in figure.details.items() if not name.startswith(FINDINGS)}
    options = {f"{name}_options": NO_OPTIONS for name in ("sampler", "threshold", "guidance", "guide") if name in details}
    return facts | options | details | ({} if stored.ema else {"weights": "last"})


def _with_own(conditions: Conditions, config: Config) -> Conditions:
    """The conditions with OWN in place of each that is what the run's own config says."""
    T = config.schedule.timesteps
    own = drawing_facts(with_learned_variance(config, config.sample), T) | {
        "variance": config.objective.reverse_variance,
        "timesteps": T,
    }
    if "timesteps" in conditions:  # of a likelihood, which takes all T steps
        own["evaluations"] = T
    return {name: OWN if name in own and own[name] == value else value for name, value in conditions.items()}
