"""Tables and lists of facts on stdout or stderr, of which no figure is ever cut.

On a terminal that is too narrow for a table each row becomes a block of lines. In a pipe or a file nothing is wrapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ddpm_cli.render.console import CleanConsole, results

Cells = Sequence[str | Text]


def show_table(title: str, columns: Sequence[str], rows: Sequence[Cells], console: CleanConsole = results) -> None:
    """Print a table.

    Args:
        title: Above it; none if empty.
        columns: Heads; those of figures, which are never wrapped, start with a blank, which is not shown.
        rows: Cells.
        console: Where to.
    """
    table = _table(title, columns, rows)
    narrowest = Measurement.get(console, console.options.update(max_width=10_000), table).minimum
    if narrowest <= console.width:
        console.print(table)
        return
    if title:
        console.print(Text(title, "bold"))
    for row in rows:
        console.print(as_text(row[0], "bold cyan"))
        console.print(_facts({head.strip(): cell for head, cell in zip(columns[1:], row[1:], strict=True)}, indent=2))


def _table(title: str, columns: Sequence[str], rows: Sequence[Cells]) -> Table:
    table = Table(title=title or None, title_justify="left", title_style="bold", box=SIMPLE, pad_edge=False)
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
