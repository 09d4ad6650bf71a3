"""Show what `sweep` does: its runs before it starts, and the usual view of each at work."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from rich.text import Text

from ddpm_cli.core.io.paths import path_text
from ddpm_cli.core.wording import counted
from ddpm_cli.render.terminal.console import results, show_line, show_notice
from ddpm_cli.render.terminal.evaluate import EvaluateView
from ddpm_cli.render.terminal.format import duration, setting
from ddpm_cli.render.terminal.tables import show_table
from ddpm_cli.render.terminal.training import TrainingView
from ddpm_cli.results.events import EvaluateProgress, Event, Notice, SweepPlan, SweepProgress

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
