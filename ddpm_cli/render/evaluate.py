"""What `evaluate` shows: a bar while it works, and the figures with all that they depend on."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ddpm_cli.events import DataProgress, EvaluateProgress, Event, Figure, Notice
from ddpm_cli.render.console import messages, print_text, show_notice


class EvaluateView:
    """A listener that draws one bar for each metric on stderr; a context manager that owns the bars."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(),
            console=messages,
            transient=True,
            disable=not messages.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> EvaluateView:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        if isinstance(event, Notice):
            show_notice(event)
        elif isinstance(event, DataProgress):
            self._advance(event.what, event.done, event.total, "pictures")
        elif isinstance(event, EvaluateProgress):
            self._advance(event.metric, event.done, event.total, "evaluations")

    def _advance(self, name: str, done: int, total: int, unit: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, unit=unit)
        self._progress.update(self._tasks[name], completed=done)


def figure_lines(figure: Figure) -> list[str]:
    """One figure as text: the value, its terms, and what it depends on."""
    error = "" if figure.standard_error is None else f" +- {figure.standard_error:.4f} (standard error over images)"
    lines = [f"{figure.metric}: {figure.value:.4f} {figure.unit}{error}"]
    lines += [f"  {name:<10} {value:.4f}" for name, value in figure.terms.items()]
    lines.append("  " + ", ".join(f"{name} {value}" for name, value in figure.details.items()))
    lines.append(f"  {figure.n} images of {figure.data} ({figure.split}), sha256 {figure.sha256[:16]}, seed {figure.seed}")
    return lines


def show_figures(figures: Sequence[Figure]) -> None:
    """Print figures on stdout."""
    for figure in figures:
        print_text("\n".join(figure_lines(figure)))
