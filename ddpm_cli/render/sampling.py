"""What `sample` shows while it works."""

from __future__ import annotations

from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ddpm_cli.events import Compiling, Event, Notice, SampleProgress
from ddpm_cli.render.console import messages, show_notice
from ddpm_cli.render.format import compiling_line


class SamplingView:
    """A listener that draws the denoising steps as a bar on stderr; a context manager that owns the bar.

    Args:
        doing: What the steps are for.
    """

    def __init__(self, doing: str = "sampling") -> None:
        self._progress = Progress(
            TextColumn(f"[bold]{doing}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            console=messages,
            transient=True,
            disable=not messages.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> SamplingView:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        if isinstance(event, Notice):
            show_notice(event)
        elif isinstance(event, Compiling):
            self._progress.console.print(compiling_line(event.seconds), style="dim")
        elif isinstance(event, SampleProgress):
            if self._task is None:
                self._task = self._progress.add_task("sampling", total=event.total)
            self._progress.update(self._task, completed=event.done)
