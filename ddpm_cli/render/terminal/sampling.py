"""Show what `sample` does while it works."""

from __future__ import annotations

from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn

from ddpm_cli.render.terminal.bars import Bars
from ddpm_cli.render.terminal.console import show_line
from ddpm_cli.results.events import Event, SampleProgress


def show_model(origin: Path, step: int, *, ema: bool, width: float | None = None) -> None:
    """Say on stderr which weights are used: their file, the steps they were trained for, and whether they are averaged.

    Args:
        origin: The file or checkpoint.
        step: Optimizer steps.
        ema: Whether they are averaged.
        width: Of the power-function average, if they are one.
    """
    of_width = "" if width is None else f" of width {width:g}"
    show_line("model:", "cyan", f"{origin} (step {step:,}, {'EMA' if ema else 'last'} weights{of_width})")


def show_guide(origin: Path, step: int, scale: float) -> None:
    """Say on stderr which weaker model guides."""
    show_line("guide:", "cyan", f"{origin} (step {step:,}, EMA weights), scale {scale:g}")


class SamplingView(Bars):
    """Draw the denoising steps as a bar, see `Bars`; a listener.

    Args:
        doing: What the steps are for.
    """

    def __init__(self, doing: str = "sampling") -> None:
        named, unit = TextColumn(f"[bold]{doing}"), TextColumn("steps")
        super().__init__(named, BarColumn(), MofNCompleteColumn(), unit, TimeRemainingColumn())
        self._task: TaskID | None = None

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        super().__call__(event)
        if isinstance(event, SampleProgress):
            if self._task is None:
                self._task = self._progress.add_task("sampling", total=event.total)
            self._progress.update(self._task, completed=event.done)
