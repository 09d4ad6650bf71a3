"""Say what a comparison found, as lines and tables of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ddpm_cli.core.wording import counted
from ddpm_cli.metrics.registry import direction_of, in_training
from ddpm_cli.render.terminal.format import duration, number, quantity, setting
from ddpm_cli.render.terminal.tables import Sheet
from ddpm_cli.results.comparison import Apart, Arm, Comparison, Measure, Run

LOSSES = "losses of the arms"
NO_OPTIONS = "{}"


def lead(comparison: Comparison) -> list[str]:
    """Say what must be said before any table."""
    runs, arms = comparison.runs, comparison.arms
    lines = [f"{len(runs)} runs in {counted(len(arms), 'arm')}."]
    if len(runs) == 1:
        lines = [f"One run, {runs[0].name}: there is nothing to compare it with."]
    elif comparison.only_seed:
        lines = [_only_seed(comparison)]
    elif any(measure.verdicts for measure in comparison.measures):
        others = len(arms) - 1
        lines.append(
            f"Verdicts: Welch's t-test over the seeds against {comparison.baseline}, corrected for "
            f"{counted(others, 'arm')} (Holm). Where nothing differs, each figure by itself says otherwise in at most "
            "5% of cases. +- is the standard deviation over the seeds."
        )
    return [*lines, *comparison.notes]


def _only_seed(comparison: Comparison) -> str:
    arm = comparison.arms[0]
    if len({run.repeat for run in arm.runs}) == 1:
        return f"The {len(arm.runs)} runs have the same config and the same train.seed: they are one experiment."
    by_metric: dict[str, list[float]] = {}
    for measure in comparison.measures:
        by_metric.setdefault(measure.metric, []).extend(f.spread for f in measure.arms if f.spread is not None)
    spreads = [f"{metric} {_range(found)}" for metric, found in by_metric.items() if found]
    noise = f"; their spread is the noise of this experiment (standard deviation: {', '.join(spreads)})" if spreads else ""
    return f"The {len(arm.runs)} runs differ only in train.seed: not different{noise}."


def _range(values: Sequence[float]) -> str:
    texts = dict.fromkeys(f"{value:.2g}" for value in (min(values), max(values)))
    return " to ".join(texts)


def sheets(comparison: Comparison) -> list[Sheet]:
    """List all tables, in their order."""
    return [
        *_difference_sheets(comparison),
        _run_sheet(comparison),
        _run_loss_sheet(comparison.runs),
        *_measure_sheets(comparison),
        *_apart_sheets(comparison),
    ]


def _difference_sheets(comparison: Comparison) -> list[Sheet]:
    """Keys or arms are the rows, whichever are more."""
    if comparison.only_seed:
        return []
    keys, arms = list(comparison.differences), comparison.arms
    seeds = tuple(_seeds(arm) for arm in arms)
    cells = [tuple(setting(value) for value in values) for values in comparison.differences.values()]
    if len(keys) > len(arms):
        rows = tuple((key, *of_arms) for key, of_arms in zip(["train.seed", *keys], [seeds, *cells], strict=True))
        return [Sheet("what differs", ("key", *(arm.name for arm in arms)), rows)]
    by_arm = tuple((arm.name, *values) for arm, *values in zip(arms, *cells, seeds, strict=True))
    return [Sheet("what differs", ("arm", *keys, "train.seed"), by_arm)]


def _seeds(arm: Arm) -> str:
    return ", ".join(str(run.seed) for run in arm.runs)


def _run_sheet(comparison: Comparison) -> Sheet:
    columns = ("run", " steps", " images", " time", " images/s", " parameters", "device")
    return Sheet("runs", columns, tuple(_run_row(run, comparison.failures) for run in comparison.runs))


def _run_row(run: Run, failures: Mapping[str, str]) -> tuple[str, ...]:
    standing = "" if run.finished else ", failed" if run.name in failures else ", not finished"
    speed = "-" if run.images_per_second is None else f"{run.images_per_second:,.0f}"
    parameters = "-" if run.parameters is None else quantity(run.parameters).replace(" ", "")
    return (run.name + standing, f"{run.step:,}", f"{run.images:,}", duration(run.seconds), speed, parameters, run.device)


def _run_loss_sheet(runs: Sequence[Run]) -> Sheet:
    """Losses, and the metrics of `train.evaluate_every`, each as it was last and at its best."""
    metrics = [name for name in in_training() if any(name in run.curves for run in runs)]
    names = ("loss", "held_out_loss", *metrics)
    rows = tuple((run.name, *(number(value) for name in names for value in _last_and_best(run, name))) for run in runs)
    columns = [column for name in ("training", "held-out", *metrics) for column in (f" {name}", " best")]
    return Sheet("losses and metrics of the runs" if metrics else "losses of the runs", ("run", *columns), rows)


def _last_and_best(run: Run, name: str) -> tuple[float | None, float | None]:
    return run.last(name), run.best(name, direction_of(name))


def _measure_sheets(comparison: Comparison) -> list[Sheet]:
    """One for the losses and one for each metric; what varies between measurements of one becomes columns, the rest is below."""
    by_title: dict[str, list[Measure]] = {}
    for measure in comparison.measures:
        by_title.setdefault(measure.metric if measure.conditions else LOSSES, []).append(measure)
    return [_measure_sheet(title, measures, comparison) for title, measures in by_title.items()]


def _measure_sheet(title: str, measures: Sequence[Measure], comparison: Comparison) -> Sheet:
    varying = varying_conditions(measures)
    verdict = (f"against {comparison.baseline}",) if len(comparison.arms) > 1 else ()
    named = ("loss",) if title == LOSSES else ()
    columns = (*named, *varying, "arm", " mean", " seeds", *verdict)
    rows = tuple(
        (*[measure.metric] * len(named), *(setting(measure.conditions.get(name)) for name in varying), *cells)
        for measure in measures
        for cells in _arm_rows(measure)
    )
    return Sheet(title, columns, rows, "\n".join(_circumstances(measures)))


def _circumstances(measures: Sequence[Measure]) -> Iterable[str]:
    """What all measurements of a metric share."""
    first = measures[0].conditions
    shared = [name for name in first if all(measure.conditions.get(name) == first[name] for measure in measures)]
    common = {name: first[name] for name in shared if first[name] != NO_OPTIONS}
    if common:
        yield ", ".join(f"{name.replace('_', ' ')} {setting(value)}" for name, value in common.items())
    floors = {measure.floor for measure in measures}
    if len(floors) == 1 and None not in floors:
        yield f"floor {number(measures[0].floor)}: the same of real images"
    yield from measures[0].notes


def _arm_rows(measure: Measure) -> Iterable[tuple[str, ...]]:
    for place, figures in enumerate(measure.arms):
        verdict = (measure.verdicts[place].text,) if measure.verdicts else ()
        spread = "" if figures.spread is None else f" +- {figures.spread:.2g}"
        yield (figures.arm, number(figures.mean) + spread, str(len(figures.values)), *verdict)


def varying_conditions(measures: Sequence[Measure]) -> list[str]:
    """List the conditions that are not the same for all measures; evaluations only where steps do not say as much."""
    names = dict.fromkeys(name for measure in measures for name in measure.conditions)
    varying = [name for name in names if len({str(measure.conditions.get(name)) for measure in measures}) > 1]
    return [name for name in varying if name != "evaluations" or "steps" not in varying]


def _apart_sheets(comparison: Comparison) -> list[Sheet]:
    if not comparison.apart:
        return []
    by_metric: dict[str, list[Apart]] = {}
    for apart in comparison.apart:
        by_metric.setdefault(apart.metric, []).append(apart)
    known = [(measure.metric, measure.conditions) for measure in comparison.measures]
    known += [(apart.metric, apart.conditions) for apart in comparison.apart]
    rows = tuple(
        (apart.run, metric, number(apart.value), _how(apart, [conditions for name, conditions in known if name == metric]))
        for metric, group in by_metric.items()
        for apart in group
    )
    remark = "" if len(comparison.runs) == 1 else "Measured in different ways, or of one run alone: not comparable."
    return [Sheet("measured apart", ("run", "metric", " value", "how"), rows, remark)]


def _how(apart: Apart, known: Sequence[Mapping[str, Any]]) -> str:
    """The conditions in which the figures of one metric differ; all of them where they do not differ."""
    differing = [name for name, value in apart.conditions.items() if any(other.get(name) != value for other in known)]
    told = differing or [name for name, value in apart.conditions.items() if value != NO_OPTIONS]
    return ", ".join(f"{name} {setting(apart.conditions[name])}" for name in told)
