"""The two consoles: results go to stdout, everything said about the work to stderr.

rich honours NO_COLOR, FORCE_COLOR and TERM by itself, and draws no colour into a pipe or a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ddpm_cli.errors import DdpmError
from ddpm_cli.events import Event, Notice
from ddpm_cli.launch import is_main, own_name

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


PIPED_WIDTH = 10_000
"""Characters: in a pipe or a file nothing is wrapped and nothing cut, because programs read it."""


class CleanConsole(Console):
    """A console on which no text, which may be a stranger's, moves the cursor, changes colours or turns the writing around."""

    @property  # type: ignore[misc]  # rich can set it, which nothing here does
    def size(self) -> ConsoleDimensions:
        """Width and height in characters: those of the terminal, with PIPED_WIDTH in a pipe."""
        return super().size if self.is_terminal else super().size._replace(width=PIPED_WIDTH)

    @property
    def drawing_width(self) -> int:
        """Characters that a drawing may take in a line: those of the terminal, or $COLUMNS or 80 in a pipe."""
        return super().size.width

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments as usual, in which control characters other than line breaks and tabs have become question marks."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(_clean(segment.text), segment.style)


def _clean(text: str) -> str:
    return _CONTROLS.sub("?", text)


results = CleanConsole(highlight=False)
# Of several processes one alone tells of the work; what goes wrong on another is its own to say.
messages = CleanConsole(stderr=True, highlight=False, quiet=not is_main())
errors = CleanConsole(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON value on stdout, and nothing else; NaN and infinities, which JSON lacks, are refused.

    Raises:
        ValueError: If a number is not finite.
    """
    results.out(json.dumps(value, indent=2, allow_nan=False))


def print_text(text: str) -> None:
    """Print text on stdout as it is, but for control characters: no markup, no wrapping."""
    results.out(_clean(text))


def show_error(error: DdpmError) -> None:
    """Show the message and, below it, the remedy, on stderr; processes other than the main one say who they are."""
    label = "error:" if is_main() else f"error of {own_name()}:"
    _say(Text.assemble((label, "bold red"), " ", error.message), errors)
    if error.remedy:
        _say(Text(f"  {error.remedy}"), errors)


def show_notice(notice: Notice) -> None:
    """Show a notice on stderr; an important one stands out."""
    show_line("note:", "bold yellow" if notice.important else "dim", notice.message)


def show_notices(event: Event) -> None:
    """A listener that shows notices and nothing else."""
    if isinstance(event, Notice):
        show_notice(event)


def show_line(label: str, style: str, text: str) -> None:
    """Write a line with a label to stderr."""
    _say(Text.assemble((label, style), " ", text))


def _say(text: Text, console: Console = messages) -> None:
    """Wrap between words on a terminal, and never in a file or pipe, where others search the text."""
    console.print(text, soft_wrap=not console.is_terminal)
