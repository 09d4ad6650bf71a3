"""Own the two consoles: results go to stdout, everything said about the work to stderr.

rich honours NO_COLOR, FORCE_COLOR and TERM by itself, and draws no colour into a pipe or a file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ddpm_cli.core.io.files import readable, readable_values
from ddpm_cli.core.io.paths import path_text
from ddpm_cli.core.launch import is_main, own_name
from ddpm_cli.errors import DdpmError
from ddpm_cli.results.events import Event, Notice

IMPORTANT = "bold magenta"
"""What stands out: of the eight colours this and red alone are dark enough for white and light enough for black."""
INDENT, NARROWEST = 2, 20
"""Characters: of what goes on below, and of the narrowest column of text."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")

_PARTS = re.compile(r"(?<=: )(?=ddpm [a-z])| {3}(?=\()")
"""Where a line may be cut: before a command, and before the remark in brackets behind it."""
PIPED_WIDTH = 10_000
"""Characters: in a pipe or a file nothing is wrapped and nothing cut, because programs read it."""


class CleanConsole(Console):
    """Print so that no text, which may be a stranger's, moves the cursor, changes colours or turns the writing around."""

    @property  # type: ignore[misc]  # rich can set it, which nothing here does
    def size(self) -> ConsoleDimensions:
        """Tell width and height in characters: those of the terminal, with PIPED_WIDTH in a pipe."""
        return super().size if self.is_terminal else super().size._replace(width=PIPED_WIDTH)

    @property
    def drawing_width(self) -> int:
        """Count the characters that a drawing may take in a line: those of the terminal, or $COLUMNS or 80 in a pipe."""
        return super().size.width

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as usual, and make question marks of control characters other than line breaks and tabs."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(_clean(segment.text), segment.style)


def _clean(text: str) -> str:
    return _CONTROLS.sub("?", readable(text))


results = CleanConsole(highlight=False)
# Of several processes one alone tells of the work; what goes wrong on another is its own to say.
messages = CleanConsole(stderr=True, highlight=False, quiet=not is_main())
errors = CleanConsole(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON value on stdout, and nothing else: paths as `path_text`; NaN and infinities, which JSON lacks, are refused.

    Raises:
        ValueError: If a number is not finite.
    """
    results.out(json.dumps(readable_values(value), indent=2, allow_nan=False, default=_path_text))


def _path_text(value: object) -> str:
    if isinstance(value, Path):
        return path_text(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def json_value(value: Any) -> Any:
    """Write a value as JSON has it: paths as text, and null for numbers that it lacks."""
    if isinstance(value, Mapping):
        return {str(key): json_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return path_text(value) if isinstance(value, Path) else value


def print_text(text: str) -> None:
    """Print text on stdout as it is, but for control characters: no markup, no wrapping."""
    results.out(_clean(text))


def show_error(error: DdpmError) -> None:
    """Show the message and, below it, the remedy, on stderr; processes other than the main one say who they are."""
    show_line("error:" if is_main() else f"error of {own_name()}:", "bold red", error.message, errors)
    _show_below(error.remedy.split("\n") if error.remedy else (), INDENT, errors)


def show_notice(notice: Notice) -> None:
    """Show a notice on stderr; an important one stands out."""
    show_line("note:", IMPORTANT if notice.important else "dim", notice.message)


def show_notices(event: Event) -> None:
    """Show notices and nothing else; a listener."""
    if isinstance(event, Notice):
        show_notice(event)


def show_line(label: str, style: str, text: str, console: CleanConsole = messages) -> None:
    """Write a text behind a label, by default to stderr."""
    lead = Text.assemble((label, style), " ")
    first, *others = text.split("\n")
    _show_hanging(lead, first, console)
    _show_below(others, lead.cell_len, console)


def _show_below(lines: Iterable[str], indent: int, console: CleanConsole) -> None:
    """Show lines with an indent, but for those that have their own."""
    for line in lines:
        _show_hanging(Text("" if line.startswith(" ") else " " * indent), line, console)


def _show_hanging(lead: Text, line: str, console: CleanConsole) -> None:
    """Show a line behind its lead; on a terminal too narrow for it the rest goes below, never with a line end within a command."""
    text = line.lstrip()
    start = lead + Text(" " * (len(line) - len(text)))
    if not console.is_terminal or start.cell_len + cell_len(text) <= console.width:
        console.print(start + Text(text), soft_wrap=True)
        return
    depth = start.cell_len
    below = Text(" " * (depth if lead else depth + INDENT))
    for part in map(str.strip, _PARTS.split(text)):
        room = max(console.width - below.cell_len, NARROWEST)
        for piece in [Text(part)] if part.startswith("ddpm ") else Text(part).wrap(console, room):
            console.print(start + piece, soft_wrap=True)
            start = below
        start = below = Text(" " * (depth + INDENT))
