"""Draw curves in a terminal with braille characters, 2 x 4 dots in each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

DOT_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.int64)
BLANK = 0x2800


class Canvas:
    """Hold a grid of characters on which curves are drawn, each in its own style.

    Args:
        columns: Width in characters.
        rows: Height in characters.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._bits = np.zeros((rows, columns), dtype=np.int64)
        self._marks = np.full((rows, columns), "", dtype="<U1")
        self._styles = np.full((rows, columns), "", dtype=object)

    def curve(self, values: NDArray[np.float64], style: str, mark: str = "", mark_at: float = 0.5) -> None:
        """Draw a curve over the whole width.

        Args:
            values: Heights from 0 (bottom) to 1 (top), at evenly spaced places.
            style: rich style of the curve.
            mark: One character set on the curve, which tells it from others without colour.
            mark_at: Where the mark is set, from 0 (left) to 1 (right).
        """
        width, height = 2 * self.columns, 4 * self.rows
        places = np.interp(np.linspace(0, 1, width), np.linspace(0, 1, len(values)), np.clip(values, 0, 1))
        dots = np.rint((1 - places) * (height - 1)).astype(int)
        for x, (previous, dot) in enumerate(zip([dots[0], *dots[:-1]], dots, strict=True)):
            for y in range(min(dot, previous + 1), max(dot, previous - 1) + 1):
                self._bits[y // 4, x // 2] |= DOT_BITS[y % 4, x % 2]
                self._styles[y // 4, x // 2] = style
        if mark:
            x = round(mark_at * (width - 1))
            self._marks[dots[x] // 4, x // 2] = mark
            self._styles[dots[x] // 4, x // 2] = style

    def lines(self) -> list[Text]:
        """List the rows from top to bottom."""
        return [Text.assemble(*(self._cell(row, column) for column in range(self.columns))) for row in range(self.rows)]

    def _cell(self, row: int, column: int) -> tuple[str, str]:
        character = self._marks[row, column] or chr(BLANK + int(self._bits[row, column]))
        return str(character).replace(chr(BLANK), " "), str(self._styles[row, column])
