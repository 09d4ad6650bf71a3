"""Show what `sweep` does: its runs before it starts, and the usual view of each at work; and what a speedrun came to."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ddpm_cli.core.io.paths import path_text
from ddpm_cli.core.wording import counted
from ddpm_cli.render.terminal.console import results, show_line, show_notice
from ddpm_cli.render.terminal.evaluate import EvaluateView
from ddpm_cli.render.terminal.format import duration, setting
from ddpm_cli.render.terminal.tables import show_table
from ddpm_cli.render.terminal.training import TrainingView
from ddpm_cli.results.events import EvaluateProgress, Event, Notice, SweepPlan, SweepProgress

if TYPE_CHECKING:
    from ddpm_cli.results.speedrun import Speedrun

WORK = {"new": "training", "begun": "training goes on", "finished": "trained already", "failed": "failed before"}


def show_plan(plan: SweepPlan) -> None:
    """Print the runs of a sweep with their settings and times on stdout."""
    rows = []
    for run in plan.runs:
        settings = "\n".join(f"{key} = {setting(value)}" for key, value in run.settings.items())
        rows.append((run.name, settings, run.standing, duration(run.seconds)))
    show_table(f"sweep {plan.name}", ("run", "settings", "standing", " time"), rows)
    points = len(plan.points)
    measured = f", each measured with {counted(points, 'setting')} of sampling" if points else ""
    results.print(Text(f"{counted(len(plan.runs), 'run')}{measured}: about {duration(plan.seconds)} in all, in {plan.folder}."))


def plan_json(plan: SweepPlan) -> dict[str, Any]:
    """Write the same as a JSON object."""
    return {
        "sweep": plan.name,
        "folder": path_text(plan.folder),
        "seconds": plan.seconds,
        "runs": [
            {
                "name": run.name,
                "arm": run.arm,
                "seed": run.seed,
                "settings": run.settings,
                "standing": run.standing,
                "seconds": run.seconds,
            }
            for run in plan.runs
        ],
        "evaluations": [dict(point) for point in plan.points],
    }


class SweepView:
    """Draw each run of a sweep in its usual view; a listener and a context manager that owns the views."""

    def __init__(self) -> None:
        self._views = ExitStack()
        self._training: TrainingView | None = None
        self._evaluation: EvaluateView | None = None

    def __enter__(self) -> SweepView:
        return self

    def __exit__(self, *error: object) -> None:
        self._views.close()

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        if isinstance(event, SweepProgress):
            self._turn_to(event)
        elif isinstance(event, EvaluateProgress):
            self._evaluating()(event)
        elif isinstance(event, Notice):
            show_notice(event)
        elif self._training:
            self._training(event)

    def _turn_to(self, event: SweepProgress) -> None:
        self._views.close()
        self._evaluation = None
        self._training = self._views.enter_context(TrainingView())
        left = f", about {duration(event.seconds_left)} left in all" if event.seconds_left else ""
        show_line(f"run {event.number} of {event.total}:", "bold", f"{event.run}, {WORK[event.standing]}{left}")

    def _evaluating(self) -> EvaluateView:
        if self._evaluation is None:
            self._evaluation = self._views.enter_context(EvaluateView())
        return self._evaluation


def show_speedrun(speedrun: Speedrun) -> None:
    """Print each seed and the figure of the record on stdout."""
    clock, record = speedrun.clock, speedrun.record
    rows = [
        (str(run.seed), f"{run.steps:,}", f"{run.images:,}", f"{run.seconds / 60:.2f}", f"{run.value:.3f}") for run in speedrun.runs
    ]
    show_table(f"{record.file.stem} on {clock.name}", ("seed", " steps", " images", " minutes", f" {clock.metric}"), rows)
    floor = "" if speedrun.floor is None else f", real images have {speedrun.floor:.3f}"
    measured = f"mean and standard deviation of {len(speedrun.runs)} seeds, {clock.n:,} samples each{floor}"
    where = f"{speedrun.device} with {speedrun.threads} threads"
    results.print(Text(f"{clock.metric} {speedrun.mean:.3f} ± {speedrun.spread:.3f} ({measured}), on {where}."))
    show_line("kept in:", "green", str(speedrun.file))
