"""Put runs beside each other: what they were told, how they went, and whether they differ."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ddpm_cli.core.io.files import printable
from ddpm_cli.errors import RunError
from ddpm_cli.experiments.arms import differences, group_arms
from ddpm_cli.experiments.measures import figure_measures, loss_measures
from ddpm_cli.results.comparison import Arm, Comparison
from ddpm_cli.runs.record import RunRecord, find_runs, read_run


def compare(
    paths: Sequence[Path],
    *,
    runs: Path = Path("runs"),
    baseline: str | None = None,
    failures: Mapping[str, str] | None = None,
    least: int = 2,
) -> Comparison:
    """Compare runs.

    Args:
        paths: Names below `runs`, run folders, or folders of runs, which stand for all runs in them.
        runs: The folder of all runs.
        baseline: Name of the arm, or of one of its runs, that the others are compared with; None takes the first that has finished.
        failures: Why runs failed, by name, where that is known.
        least: Runs that there must be, 1 or 2.
    Raises:
        RunError: If there are fewer runs, one does not exist or is damaged, or there is no such baseline.
    """
    found = find_runs(paths, runs)
    if len(found) < least:
        raise RunError(
            f"There is one run to compare, {found[0].path}." if found else "There is no run to compare.",
            "Name two or more runs, or the folder of a sweep.",
        )
    repeats = group_arms(_with_own_names([read_run(run) for run in found]))
    arms = [Arm(group.name, tuple(record.run for record in group.records)) for group in repeats]
    chosen = _baseline(arms, baseline)
    measures, apart = figure_measures(repeats, chosen)
    names = {run.name for arm in arms for run in arm.runs}
    known = {name: reason for name, reason in (failures or {}).items() if name in names}
    return Comparison(
        arms=tuple(arms),
        baseline=chosen,
        differences=differences(repeats),
        measures=(*loss_measures(repeats, chosen), *measures),
        apart=tuple(apart),
        failures=known,
        notes=tuple(_notes(arms, known)),
    )


def _with_own_names(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Runs that share their name go by their path."""
    names = [record.run.name for record in records]
    return [
        record
        if names.count(record.run.name) == 1
        else replace(record, run=replace(record.run, name=printable(str(record.run.path))))
        for record in records
    ]


def _baseline(arms: Sequence[Arm], wanted: str | None) -> str:
    if wanted is None:
        return next((arm.name for arm in arms if any(run.finished for run in arm.runs)), arms[0].name)
    by_name = {run.name: arm.name for arm in arms for run in arm.runs} | {arm.name: arm.name for arm in arms}
    check_baseline(wanted, by_name)
    return by_name[wanted]


def check_baseline(wanted: str, names: Collection[str]) -> None:
    """Refuse a baseline that is none of the arms and runs.

    Raises:
        RunError: With the names that are nearly the same.
    """
    if wanted in names:
        return
    near = difflib.get_close_matches(wanted, names, n=3)
    raise RunError(
        f"There is no arm or run {wanted!r} to compare with.",
        f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(sorted(names)[:10])}.",
    )


def _notes(arms: Sequence[Arm], failures: Mapping[str, str]) -> list[str]:
    notes = [f"{name} failed: {reason}" for name, reason in failures.items()]
    for arm in arms:
        notes += [
            f"{run.name} has not finished (step {run.step:,}): it counts in no verdict."
            for run in arm.runs
            if not run.finished and run.name not in failures
        ]
        repeats = [run.repeat for run in arm.runs]
        notes += [
            f"{run.name} repeats seed {run.seed} of {arm.name}: the same experiment, not another repeat; the first counts."
            for place, run in enumerate(arm.runs)
            if run.repeat in repeats[:place]
        ]
    return notes
