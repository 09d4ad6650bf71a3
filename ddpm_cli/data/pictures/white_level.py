"""Refuse pictures of more than 8 bits or of floats whose white cannot be told: what their files lack is one scale for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data.pictures.decode import WHITES, Levels
from ddpm_cli.data.pictures.settings import Pictures, printable
from ddpm_cli.data.pictures.survey import Survey
from ddpm_cli.errors import DataError

LEAST_SHARE = 0.1
"""Of the values up to white that the pictures of a set must use, its brightest one at least."""

KINDS = {16: "16-bit numbers", 32: "32-bit numbers", 0: "floats"}


def require_one_scale(pictures: Pictures, found: Survey, rows: NDArray[np.int64]) -> None:
    """Refuse pictures that would get different scales, lose values below 0, or use less than a tenth of the greys.

    Pictures of 8 bits are never refused, and those of different kinds go together: white is the largest value of each kind.

    Args:
        pictures: The collection.
        found: What is known of it.
        rows: Numbers of the pictures that are used, int64 [n].
    Raises:
        DataError: Naming a picture, its values, and how to write pictures of one scale.
    """
    for depth in KINDS:
        numbers = np.sort(rows[found.depths[rows] == depth])
        if len(numbers):
            _require_one_scale(
                _Set(depth, found.lows[numbers], found.highs[numbers]), [pictures.names[i] for i in numbers.tolist()]
            )


def require_scale(name: str, levels: Levels | None) -> None:
    """As `require_one_scale`, of a picture alone.

    Args:
        name: Of its file.
        levels: Its values; None of 8 bits.
    """
    if levels is not None:
        _require_one_scale(_Set(levels.depth, np.array([levels.low]), np.array([levels.high])), [name])


class _Set(NamedTuple):
    """The smallest and largest values of pictures of one kind, float64 [n]; see `Levels.depth`."""

    depth: int
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]

    def whites(self) -> NDArray[np.float64]:
        """As `Levels.white`."""
        choices = np.array([*WHITES[self.depth], np.inf])
        found: NDArray[np.float64] = choices[np.searchsorted(choices, self.highs)]
        return np.where(np.isinf(found), self.highs, found)


def _require_one_scale(values: _Set, names: Sequence[str]) -> None:
    def told(number: int) -> str:
        between = f"from {values.lows[number]:,.10g} to {values.highs[number]:,.10g}"
        return f"{printable(names[number])} holds {KINDS[values.depth]} {between}"

    whites = values.whites()
    darkest, brightest = int(values.lows.argmin()), int(values.highs.argmax())
    white = float(whites[brightest])
    remedy = _remedy(float(values.lows[darkest]), float(values.highs[brightest]))
    if values.lows[darkest] < -white / 510:  # what is closer to 0 becomes 0 anyway
        raise DataError(f"{told(darkest)}: those below 0 would be cut off.", remedy)
    others = np.flatnonzero((whites != white) & (values.highs > 0))  # a black picture is black on any scale
    if len(others):
        other = int(others[0])
        raise DataError(
            f"{told(other)}, where {whites[other]:,.10g} would be white, and {told(brightest)}, where {white:,.10g} would be: "
            "pictures of one set need one scale.",
            remedy,
        )
    if 0 < values.highs[brightest] < LEAST_SHARE * white:
        raise DataError(f"{told(brightest)}, but white would be {white:,.10g}: all would be almost black.", remedy)


def _remedy(low: float, high: float) -> str:
    low = min(low, 0.0)
    return (
        "Write all of them anew with 8 bits and one scale, each by: "
        "import numpy; from PIL import Image; values = numpy.asarray(Image.open(OLD), float); "
        f"Image.fromarray(numpy.rint((values - {low:.10g}) * (255 / {high - low:.10g})).astype(numpy.uint8)).save(NEW)"
    )
