"""Print tables and lists of facts on stdout or stderr, of which no figure is ever cut.

On a terminal that is too narrow for a table each row becomes a block of lines. In a pipe or a file nothing is wrapped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from ddpm_cli.render.terminal.console import CleanConsole, results

Cells = Sequence[str | Text]
GAP = 2
"""Characters between columns."""
NARROW_NAME, BROKEN_NAME = 12, 24
"""Characters that a name which is broken gets at least and at most."""
SHORT = 40
"""Characters of a head and a cell, up to which others stand beside them in a block."""
NAME_WORDS = 4
"""A cell with more is prose, whose long words are left whole."""


@dataclass(frozen=True)
class Sheet:
    """Hold a table as text.

    Attributes:
        title: Above it.
        columns: Heads; those of numbers start with a blank, which is not shown.
        rows: Cells.
        remark: Below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remark: str = ""


def show_sheets(lead: Iterable[str], sheets: Iterable[Sheet]) -> None:
    """Print lines, and then tables with their remarks, on stdout."""
    for line in lead:
        results.print(Text(line))
    for sheet in sheets:
        show_table(sheet.title, sheet.columns, sheet.rows)
        if sheet.remark:
            results.print(Text(f"{sheet.remark}\n", "dim"))


def show_table(title: str, columns: Sequence[str], rows: Sequence[Cells], console: CleanConsole = results) -> None:
    """Print a table.

    Args:
        title: Above it, after an empty line; none if empty.
        columns: Heads; those of figures, which are never wrapped, start with a blank, which is not shown.
        rows: Cells.
        console: Where to.
    """
    if title:
        console.print(Text(f"\n{title}", "bold"))
    fitting = _with_broken_names(columns, rows, console.width)
    if (widths := _widths(columns, fitting, console.width)) is not None:
        console.print(_table(columns, fitting, widths))
        return
    _show_blocks(columns, rows, console)


def _show_blocks(columns: Sequence[str], rows: Sequence[Cells], console: CleanConsole) -> None:
    """Show each row as its first cell and below it the others with their heads: as many in a line as fit if all are short."""
    labels = [" ".join(column.split()) for column in columns[1:]]
    widths = [max(cell_len(f"{label} {row[place]}") for row in rows) for place, label in enumerate(labels, 1)]
    short = max(widths, default=0) <= min(SHORT, console.width - GAP) and not any("\n" in str(cell) for row in rows for cell in row)
    subject = " ".join(columns[0].split()) + " " if columns[0].startswith(" ") else ""
    for row in rows:
        console.print(Text(_broken(f"{subject}{row[0]}", console.width), "bold"))
        if short:
            console.print(_side_by_side(labels, row[1:], widths, console.width), soft_wrap=True)
        else:
            console.print(_facts(zip((" " * GAP + label for label in labels), row[1:], strict=True)))


def _side_by_side(labels: Sequence[str], cells: Cells, widths: Sequence[int], room: int) -> Text:
    text, used = Text(" " * GAP), GAP
    for label, cell, width in zip(labels, cells, widths, strict=True):
        if used + width > room:
            text.append("\n" + " " * GAP)
            used = GAP
        fact = Text.assemble((label, "cyan"), " ", as_text(cell))
        text.append_text(fact).append(" " * (width - fact.cell_len + GAP))
        used += width + GAP
    return text


def fits(columns: Sequence[str], rows: Sequence[Cells], room: int) -> bool:
    """Tell whether `show_table` would print these as a table in a room of so many characters, and with all names in one line."""
    return _total(_least_widths(columns, rows)) <= room


def _with_broken_names(columns: Sequence[str], rows: Sequence[Cells], room: int) -> Sequence[Cells]:
    """Rows in which the longest names have lines as short as the table needs to fit, each ending at a joint of the name."""
    least = _least_widths(columns, rows)
    place = max(range(len(columns)), key=least.__getitem__)
    most = room - _total(least) + least[place]
    names = [str(row[place]) for row in rows]
    if most >= least[place] or most < NARROW_NAME or any(len(name.split()) > NAME_WORDS for name in names):
        return rows
    longest = min(most, BROKEN_NAME)
    return [(*row[:place], _broken(name, longest), *row[place + 1 :]) for row, name in zip(rows, names, strict=True)]


def _broken(name: str, longest: int) -> str:
    if cell_len(name) <= longest:
        return name
    return "\n".join(re.findall(rf".{{1,{longest}}}$|.{{1,{longest - 1}}}[-_./, ]|.+?[-_./, ]|.+", name))


def _least_widths(columns: Sequence[str], rows: Sequence[Cells]) -> list[int]:
    """Characters that each column takes if texts are broken between words alone, and figures not at all."""
    widths = []
    for place, column in enumerate(columns):
        lines = _lines(column, rows, place)
        pieces = lines if column.startswith(" ") else [word for line in lines for word in line.split()]
        widths.append(max(map(cell_len, pieces), default=0))
    return widths


def _lines(column: str, rows: Sequence[Cells], place: int) -> list[str]:
    return [line for text in (column.removeprefix(" "), *(str(row[place]) for row in rows)) for line in text.split("\n")]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _widths(columns: Sequence[str], rows: Sequence[Cells], room: int) -> list[int] | None:
    """Width of each column, the modest wishes for more than the least met first; None if the room is too small."""
    widths = _least_widths(columns, rows)
    left = room - _total(widths)
    if left < 0:
        return None
    wants = [max(map(cell_len, _lines(column, rows, place))) - widths[place] for place, column in enumerate(columns)]
    for number, place in enumerate(sorted(range(len(columns)), key=wants.__getitem__)):
        given = min(wants[place], left // (len(columns) - number))
        widths[place] += given
        left -= given
    return widths


def _table(columns: Sequence[str], rows: Sequence[Cells], widths: Sequence[int]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        figure = column.startswith(" ")
        table.add_column(Text(column.removeprefix(" ")), justify="right" if figure else "left", width=width, overflow="fold")
    for row in rows:
        table.add_row(*(as_text(cell) for cell in row))
    return table


def show_facts(title: str, facts: Mapping[str, str | Text], console: CleanConsole = results) -> None:
    """Print labels and texts: beside each other on a terminal, a line for each of a text's lines in a pipe."""
    if title:
        console.print(Text(title, "bold"))
    if console.is_terminal:
        console.print(_facts(facts.items()))
        return
    width = max(map(len, facts), default=0) + 2
    for label, text in facts.items():
        for number, line in enumerate(str(text).split("\n")):
            console.print(Text(f"{'' if number else f'{label}:':<{width}}{line}"))


def _facts(facts: Iterable[tuple[str, str | Text]]) -> Table:
    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in facts:
        table.add_row(label, as_text(text))
    return table


def as_text(cell: str | Text, style: str = "") -> Text:
    """Make a cell in which brackets are no markup."""
    return Text(cell, style) if isinstance(cell, str) else cell
