"""Share what the bars of sampling and of evaluating have in common."""

from __future__ import annotations

from typing import Self

from rich.progress import Progress, ProgressColumn

from ddpm_cli.render.terminal.console import messages, show_notice
from ddpm_cli.render.terminal.format import compiling_line
from ddpm_cli.results.events import Compiling, Event, Notice


class Bars:
    """Show notices and draw bars on stderr, which go away at the end; a listener and a context manager that owns them.

    Args:
        columns: Of each bar.
    """

    def __init__(self, *columns: ProgressColumn) -> None:
        self._progress = Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        if isinstance(event, Notice):
            show_notice(event)
        elif isinstance(event, Compiling):
            self._progress.console.print(compiling_line(event.seconds), style="dim")
