"""Refuse pictures whose white cannot be told, or that hardly use what is below it: what their files lack is one scale for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.pictures.decode import CUT_TO_8, WHITES, Levels
from ddpm_cli.data.pictures.settings import Pictures, shown
from ddpm_cli.data.pictures.survey import Survey
from ddpm_cli.errors import DataError

LEAST_SHARE = 0.1
"""Of the values up to white that the pictures of a set must use, its brightest one at least."""

LEAST_BRIGHT = LEAST_SHARE * 255
"""That of 8 bits."""

KINDS = {8: "8-bit numbers", 16: "16-bit numbers", CUT_TO_8: "16-bit numbers", 32: "32-bit numbers", 0: "floats"}
CAMERAS_WHITES = (1023, 4095, 16383)
"""The largest values of 10, 12 and 14 bits, which cameras and microscopes write into files of 16."""


def require_one_scale(pictures: Pictures, found: Survey, rows: NDArray[np.int64]) -> None:
    """Refuse pictures that would get different scales, lose values below 0, or use less than a tenth of the greys.

    Pictures of different kinds go together: white is the largest value of each kind. Those of 8 bits are refused only if there
    are no others, and none that was looked into is bright; see `look_for_bright`.

    Args:
        pictures: The collection.
        found: What is known of it.
        rows: Numbers of the pictures that are used, int64 [n].
    Raises:
        DataError: Naming a picture, its values, and how to write pictures of one scale.
    """
    for depth in KINDS:
        numbers = np.sort(rows[found.depths[rows] == depth])
        if len(numbers) and (depth != 8 or len(numbers) == len(rows)):
            grey = not (found.channels[numbers] == 3).any()
            values = _Set(depth, grey, found.lows[numbers], found.highs[numbers])
            _require_one_scale(values, [pictures.names[i] for i in numbers.tolist()])


def require_scale(name: str, levels: Levels | None) -> None:
    """Refuse as `require_one_scale` does, looking at a picture alone.

    Args:
        name: Of its file.
        levels: Its values; None of 8 bits.
    """
    if levels is not None:
        _require_one_scale(_Set(levels.depth, False, np.array([levels.low]), np.array([levels.high])), [name])


class _Set(NamedTuple):
    """Hold the smallest and largest values of pictures of one kind, float64 [n], and whether all are grey; see `Levels.depth`."""

    depth: int
    grey: bool
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]

    def whites(self) -> NDArray[np.float64]:
        """Find white, as `Levels.white` does."""
        choices = np.array([*WHITES[self.depth], np.inf])
        found: NDArray[np.float64] = choices[np.searchsorted(choices, self.highs)]
        return np.where(np.isinf(found), self.highs, found)

    def narrower_white(self) -> int | None:
        """Find white of fewer bits that some keep close to while all others are far beyond it; None if there is none."""
        for white in CAMERAS_WHITES if self.depth in (16, CUT_TO_8) else ():
            close, beyond = (self.highs > 0.75 * white) & (self.highs <= white), self.highs > 2 * white
            if close.sum() > 1 and beyond.sum() > 1 and beyond.sum() == (self.highs > white).sum():
                return white
        return None

    def how(self) -> str:
        """Say what the line of Python does."""
        kept = " by Pillow, which keeps but 8 of 16 bits (OpenCV keeps all)" if self.depth == CUT_TO_8 else ""
        return f"as PNG files of 8 bits and one scale{kept}"

    def line(self, low: float, high: float) -> str:
        """Write a line of Python that writes a picture with 8 bits."""
        low = min(low, 0.0)
        if self.depth in (8, CUT_TO_8):
            top = self.as_opened(high)
            return (
                f"from PIL import Image; brighter = [min(255, round(value * 255 / {top:g})) for value in range(256)]; "
                f"Image.open(OLD).convert('{'LA' if self.grey else 'RGBA'}')"
                f".point(brighter * {1 if self.grey else 3} + [*range(256)]).save(NEW)"
            )
        return (
            "import numpy; from PIL import Image; values = numpy.asarray(Image.open(OLD), float); "
            f"Image.fromarray(numpy.rint((values - {low:.10g}) * (255 / {high - low:.10g})).astype(numpy.uint8)).save(NEW)"
        )

    def as_opened(self, value: float) -> float:
        """Give a value as Pillow does."""
        return value // 257 if self.depth == CUT_TO_8 else value


def _require_one_scale(values: _Set, names: Sequence[str]) -> None:
    def told(number: int) -> str:
        between = f"from {values.lows[number]:,.10g} to {values.highs[number]:,.10g}"
        return f"{shown(names[number])} holds {KINDS[values.depth]} {between}"

    whites = values.whites()
    darkest, brightest = int(values.lows.argmin()), int(values.highs.argmax())
    white = float(whites[brightest])
    line = values.line(float(values.lows[darkest]), float(values.highs[brightest]))
    remedy = f"Write all of them anew {values.how()}, each by: {line}"
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
    if narrower := values.narrower_white():
        _refuse_two_scales(values, names, narrower)
    if 0 < values.highs[brightest] < LEAST_SHARE * white:
        raise DataError(f"{told(brightest)}, but white would be {white:,.10g}: all would be almost black.", remedy)


def _refuse_two_scales(values: _Set, names: Sequence[str], narrower: int) -> NoReturn:
    lower = values.highs <= narrower
    few = [first_few([shown(names[number]) for number in np.flatnonzero(which).tolist()], 3) for which in (lower, ~lower)]
    highs = float(values.highs[lower].max()), float(values.highs.max())
    whites = values.as_opened(65535), values.as_opened(highs[0])
    raise DataError(
        f"{counted(int(lower.sum()))} of {KINDS[values.depth]} do not exceed {highs[0]:,.10g} ({few[0]}), and the others are far "
        f"beyond, up to {highs[1]:,.10g} ({few[1]}): pictures of one set need one scale.",
        f"Write those up to {highs[0]:,.10g} anew {values.how()} (those that are as dark as that, with {whites[0]:g} in place of "
        f"{whites[1]:g}), each by: {values.line(0, highs[0])}",
    )
