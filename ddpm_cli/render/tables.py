"""Tables and lists of facts on stdout or stderr, of which no figure is ever cut.

On a terminal that is too narrow for a table each row becomes a block of lines. In a pipe or a file nothing is wrapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from ddpm_cli.render.console import CleanConsole, results

Cells = Sequence[str | Text]
GAP = 2
"""Characters between columns."""


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
    table = _table(columns, rows)
    if _narrowest(columns, rows) <= console.width:
        console.print(table)
        return
    for row in rows:
        console.print(as_text(row[0], "bold cyan"))
        console.print(_facts({head.strip(): cell for head, cell in zip(columns[1:], row[1:], strict=True)}, indent=2))


def _narrowest(columns: Sequence[str], rows: Sequence[Cells]) -> int:
    """Characters that the table takes in a line if it breaks texts between words alone."""
    widths = []
    for place, column in enumerate(columns):
        texts = [column, *(str(row[place]) for row in rows)]
        pieces = texts if column.startswith(" ") else [word for text in texts for word in text.split()]
        widths.append(max(map(cell_len, pieces), default=0))
    return sum(widths) + GAP * (len(columns) - 1)


def _table(columns: Sequence[str], rows: Sequence[Cells]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        figure = column.startswith(" ")
        table.add_column(Text(column.strip()), justify="right" if figure else "left", no_wrap=figure, overflow="fold")
    for row in rows:
        table.add_row(*(as_text(cell) for cell in row))
    return table


def show_facts(title: str, facts: Mapping[str, str | Text], console: CleanConsole = results) -> None:
    """Print labels and texts: beside each other on a terminal, a line for each of a text's lines in a pipe."""
    if title:
        console.print(Text(title, "bold"))
    if console.is_terminal:
        console.print(_facts(facts))
        return
    width = max(map(len, facts), default=0) + 2
    for label, text in facts.items():
        for number, line in enumerate(str(text).split("\n")):
            console.print(Text(f"{'' if number else f'{label}:':<{width}}{line}"))


def _facts(facts: Mapping[str, str | Text], indent: int = 0) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in facts.items():
        table.add_row(" " * indent + label, as_text(text))
    return table


def as_text(cell: str | Text, style: str = "") -> Text:
    """A cell in which brackets are no markup."""
    return Text(cell, style) if isinstance(cell, str) else cell
