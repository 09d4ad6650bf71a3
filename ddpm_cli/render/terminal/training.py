"""Show what `train` and `resume` do: a start table, a live bar, an end table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn
from rich.table import Column

from ddpm_cli.core.io.paths import shell_word
from ddpm_cli.core.wording import counted
from ddpm_cli.metrics.registry import in_training
from ddpm_cli.metrics.verdicts import p_text
from ddpm_cli.render.terminal.console import messages, show_notice
from ddpm_cli.render.terminal.data import DataBar
from ddpm_cli.render.terminal.format import FIGURES, compiling_line, duration, last_tenth, loss, quantity, shape_text
from ddpm_cli.render.terminal.tables import show_facts
from ddpm_cli.results.events import (
    CheckpointSaved,
    Compiling,
    DataProgress,
    Event,
    Incident,
    Listener,
    MetricsLogged,
    Notice,
    SamplesDrawn,
    TrainEnded,
    TrainPlan,
    TrainPlanned,
    TrainProgress,
    TrainSummary,
    together,
)
from ddpm_cli.results.start import StartReport

HOUR = 3600.0
SECONDS_BETWEEN_LINES = 10.0
INCIDENTS_TOLD = 3
"""Of each kind; the end table counts the rest."""
IMAGES_NAMED = 5
LOST_WORTH_TELLING = 0.15
"""Of the processors: less than that is what any machine does beside."""
WORK = "training"
"""What stands before the bar, unless other programs slow it down."""
BAR_FITS = 80
"""Characters for millions of steps, ten thousands of images a second and hundreds of hours beside a bar."""


def plan_facts(plan: TrainPlan) -> dict[str, str]:
    """List the start table's rows."""
    channels, height, width = plan.image_shape
    shape = shape_text(height, width, channels)
    processes = f" x {plan.processes} processes" if plan.processes > 1 else ""
    facts = {
        "data": f"{plan.data}: {counted(plan.train_images, 'image')}, {shape}, {_held_out(plan)}",
        "from": plan.data_source,
        "model": f"{plan.network}, {_parameters(plan)}, {quantity(plan.flops_per_image, 'FLOP')} per image",
        "learns": plan.objective,
        "device": f"{plan.device}, {plan.precision}{processes}",
        "budget": _budget(plan),
        "estimate": _estimate(plan),
        "run": "none, a dry run" if plan.run is None else str(plan.run),
    }
    if plan.pixels:
        facts["pixels"] = plan.pixels
    if plan.start is not None:
        facts["starts from"] = start_text(plan.start)
    if plan.start_step:
        facts["goes on"] = f"from step {plan.start_step:,}"
    return facts


def _parameters(plan: TrainPlan) -> str:
    frozen = f" ({plan.frozen_parameters:,} frozen)" if plan.frozen_parameters else ""
    return f"{plan.parameters:,} parameters{frozen}"


def start_text(start: StartReport) -> str:
    """Say in one line what the weights of a run start from."""
    step = "" if start.step is None else f", step {start.step:,}"
    return f"{start.weights}{step}: {start.taken_numbers / start.numbers:.1%} of the network's numbers"


def _held_out(plan: TrainPlan) -> str:
    some = plan.evaluated_images < plan.held_out_images
    return f"{plan.held_out_images:,} held out" + (f" (loss of {plan.evaluated_images:,})" if some else "")


def _estimate(plan: TrainPlan) -> str:
    if plan.estimated_seconds is None or plan.estimated_bytes is None:
        return "none, as the model is sharded"
    slow = f", while {others_take(plan.lost_to_others)}" if plan.lost_to_others >= LOST_WORTH_TELLING else ""
    return f"{duration(plan.estimated_seconds)}, {quantity(plan.estimated_bytes, 'B')} of memory{slow}"


def others_take(lost: float) -> str:
    """Say what other programs take of the processors."""
    return f"other programs take {lost:.0%} of the processors"


def _budget(plan: TrainPlan) -> str:
    images = f"{plan.batch_size} images" + (" (found by --batch-size auto)" if plan.batch_size_found else "")
    parts = []
    if plan.total_steps is not None:
        parts.append(f"{plan.total_steps:,} steps of {images} ({plan.epochs:.3g} epochs)")
    if plan.minutes is not None:
        parts.append(f"{plan.minutes:g} minutes" + ("" if parts else f", {images} a step"))
    return " or ".join(parts)


def summary_facts(summary: TrainSummary) -> dict[str, str]:
    """List the end table's rows."""
    return {
        "trained": f"{summary.step:,} steps, {summary.epochs:.3g} epochs, {summary.images:,} images",
        "time": f"{duration(summary.seconds)}, {summary.images_per_second:,.0f} images/s",
        "loss": loss(summary.loss),
        "held-out loss": f"{loss(summary.held_out_loss)} (best {loss(summary.best_held_out_loss)})",
        **outlook_facts(summary),
        **incident_facts(summary),
        "run": str(summary.run),
        "samples": str(summary.run / "samples.png"),
    }


def outlook_facts(summary: TrainSummary) -> dict[str, str]:
    """List the end table's rows about whether the time paid."""
    facts = {}
    if (stopped := summary.no_longer_paid) is not None:
        name = FIGURES.get(stopped.figure, stopped.figure)
        share = "" if stopped.lr_share == 1 else f"; the learning rate was at {stopped.lr_share:.0%} of its peak"
        facts["stopped"] = (
            f"it no longer pays: the last {stopped.evaluations} evaluations of {name} show no gain "
            f"({stopped.trend.gain:+.2g}, {p_text(stopped.trend.p)}){share}"
        )
    if summary.outlook is not None:
        facts["last tenth"] = last_tenth(summary.outlook)
    return facts


def incident_facts(summary: TrainSummary) -> dict[str, str]:
    """List the end table's rows about what went wrong with the numbers; none if nothing did."""
    count = summary.incidents.get
    rows = {
        "skipped": (summary.non_finite_steps, "steps, their loss or gradient was not finite"),
        "overflows": (count("overflow", 0), "steps skipped while the gradient scaler looked for its scale"),
        "spikes": (count("spike", 0), "of the loss"),
        "rollbacks": (count("rollback", 0), "to an earlier checkpoint"),
    }
    facts = {label: f"{number:,} {what}" for label, (number, what) in rows.items() if number}
    return facts | ({"see": str(summary.run / "incidents.jsonl")} if facts else {})


def next_commands(summary: TrainSummary) -> list[str]:
    """List what a user is likely to run after training."""
    run = shell_word(summary.run)
    return [
        f"ddpm sample {run} --n 36 --out grid.png",
        f"ddpm resume {run} --steps {2 * summary.step}",
        f"ddpm export {run} --format safetensors",
    ]


def incident_message(incident: Incident) -> str:
    """Say an incident in one sentence; nothing for an overflow, which is expected, and a rollback, which the error tells of."""
    images = ", ".join(map(str, incident.images[:IMAGES_NAMED])) + ("..." if incident.affected > IMAGES_NAMED else "")
    match incident.kind:
        case "non-finite":
            what = "gradient" if incident.loss is not None else "loss"
            return f"Step {incident.step:,}: the {what} is not finite; the step is skipped (training images {images})."
        case "spike":
            return f"Step {incident.step:,}: the loss leaps to {loss(incident.loss)} (largest in training images {images})."
        case "overflow" | "rollback":
            return ""


def _bar_columns(width: int) -> list[ProgressColumn]:
    """The live bar; on a terminal too narrow for it the figures alone, in as many lines as they take."""
    share = TextColumn("{task.percentage:>3.0f}%")
    if width < BAR_FITS:
        return [share, TextColumn("{task.fields[status]}", table_column=Column())]
    return [TextColumn("[bold]{task.description}"), BarColumn(bar_width=None), share, TextColumn("{task.fields[status]}")]


@contextmanager
def shown_training(*others: Listener, progress: bool = True) -> Iterator[Listener]:
    """Show the progress of a run, if asked to, and then tell others; a listener."""
    with TrainingView() as view:
        yield together(*([view] if progress else []), *others)


class TrainingView:
    """Draw training on stderr; a listener and a context manager that owns the live bar.

    On a terminal the bar is live; in a pipe or a log file there is a line for each logging interval instead.
    """

    def __init__(self) -> None:
        self._progress = Progress(
            *_bar_columns(messages.width),
            console=messages,
            expand=True,
            disable=not messages.is_terminal,
        )
        self._data = DataBar()
        self._task: TaskID | None = None
        self._loss: float | None = None
        self._status = ""
        self._last_line = 0.0
        self._incidents: Counter[str] = Counter()

    def __enter__(self) -> TrainingView:
        return self

    def __exit__(self, *error: object) -> None:
        self._data.stop()
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        match event:
            case DataProgress():
                self._data(event)
            case TrainPlanned(plan):
                self._start(plan)
            case Compiling(seconds):
                self._say(compiling_line(seconds))
            case TrainProgress():
                self._advance(event)
            case MetricsLogged(row):
                self._log(row.get("loss"), row.get("held_out_loss"), int(row["step"] or 0))
                self._log_metrics(row)
            case SamplesDrawn():
                self._say(f"samples at step {event.step:,}: {event.path}")
            case CheckpointSaved():
                self._say(f"checkpoint at step {event.step:,}: {event.path}")
            case TrainEnded(summary):
                self._end(summary)
            case Incident():
                self._tell(event)
            case Notice():
                show_notice(event)

    def _start(self, plan: TrainPlan) -> None:
        show_facts("ddpm resume" if plan.start_step else "ddpm train", plan_facts(plan), messages)
        if plan.estimated_seconds is not None and plan.estimated_seconds > HOUR:
            took = f"This will take about {duration(plan.estimated_seconds)} on {plan.device}."
            show_notice(Notice(f"{took} For a first picture in minutes: ddpm train --preset quick", important=True))
        if plan.run is not None:
            self._task = self._progress.add_task(WORK, total=1.0, status="")
            self._progress.start()

    def _advance(self, event: TrainProgress) -> None:
        left = "" if event.seconds_left is None else f"{duration(event.seconds_left)} left"
        current = "" if self._loss is None else f"loss {self._loss:.4f}"
        busy = f"busy -{event.lost_to_others:.0%}" if event.lost_to_others >= LOST_WORTH_TELLING else ""
        parts = (f"step {event.step:,}", current, f"{event.images_per_second:,.0f} images/s", left)
        status = "  ".join(part for part in parts if part)
        self._status = "  ".join(part for part in (status, busy) if part)
        if self._task is not None:
            shown = status if messages.width >= BAR_FITS else self._status
            self._progress.update(self._task, completed=event.share, status=shown, description=busy or WORK)

    def _log(self, current: float | None, held_out: float | None, step: int) -> None:
        if current is not None:
            self._loss = current
        if held_out is not None:
            self._say(f"held-out loss at step {step:,}: {held_out:.5f}")
        elif not messages.is_terminal and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._say(self._status)

    def _log_metrics(self, row: Mapping[str, float | int | None]) -> None:
        for name in in_training():
            if (value := row.get(name)) is not None:
                self._say(f"{name} of samples at step {row['step']:,}: {value:.4f}")

    def _tell(self, incident: Incident) -> None:
        self._incidents[incident.kind] += 1
        told = self._incidents[incident.kind]
        message = incident_message(incident)
        if message and told <= INCIDENTS_TOLD:
            more = " Further ones are only counted." if told == INCIDENTS_TOLD else ""
            show_notice(Notice(message + more, important=incident.kind == "non-finite"))

    def _say(self, text: str) -> None:
        self._progress.console.print(text, style="dim", soft_wrap=True, markup=False)

    def _end(self, summary: TrainSummary) -> None:
        self._progress.stop()
        show_facts("done", summary_facts(summary), messages)
        messages.print("next:", style="bold")
        for command in next_commands(summary):
            messages.print(f"  {command}", soft_wrap=True, markup=False)
