"""Choose the one scale of a collection of pictures, and look at some of their values."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.core.wording import counted
from ddpm_cli.data.pictures.decode import Header, Levels, quiet_decoders
from ddpm_cli.data.pictures.decoders import Decoders
from ddpm_cli.data.pictures.deep import KINDS
from ddpm_cli.data.pictures.reading import Read, over_pictures
from ddpm_cli.data.pictures.resizing import Wanted
from ddpm_cli.data.pictures.settings import Pictures, PictureSettings, shown
from ddpm_cli.data.pictures.survey import UNKNOWN, Survey, read_again
from ddpm_cli.data.ranges import BITS_8, FLOATS, Kind, Values, choose_scale, stored_as
from ddpm_cli.data.scale import OF_MIXED_DEPTHS, USUAL, Scale
from ddpm_cli.errors import DataError

LOOKED_AT = 200
"""Pictures that percentiles and a histogram go by, taken evenly from all of them."""

ENDS = {8: (0.0, 255.0), 0: (0.0, 1.0)}
WHOLE_16 = (OF_MIXED_DEPTHS.low, OF_MIXED_DEPTHS.high)
"""What black and white are in a set that mixes depths, of 8 bits, of floats and of all others."""


@dataclass(frozen=True)
class SetScale:
    """Hold the scale of a set of pictures.

    Attributes:
        scale: Which values are black and white.
        notice: What the user must know of it; empty if nothing.
        factors: By which the values of pictures are multiplied, by their depth, where a set mixes depths; none elsewhere.
    """

    scale: Scale = USUAL
    notice: str = ""
    factors: dict[int, float] = field(default_factory=dict)

    def wanted(self, depth: int) -> Wanted | None:
        """Say how the values of a picture of some depth are kept; None of one that is decoded to 8 bits as it is."""
        if depth == 8 and self.scale == USUAL:
            return None
        return Wanted(self.scale.low, self.scale.high, self.scale.stored, self.factors.get(depth, 1.0))


class _Size(NamedTuple):
    """Hold what values are looked at in: the shape of all images and the background."""

    shape: tuple[int, int, int]
    background: str


def choose_set_scale(
    pictures: Pictures, found: Survey, rows: NDArray[np.int64], shape: tuple[int, int, int], settings: PictureSettings
) -> SetScale:
    """Choose the scale of a collection.

    Args:
        pictures: The collection.
        found: What is known of it; of 8 bits, after `look_for_bright`.
        rows: Numbers of the pictures that are used, int64 [n].
        shape: Of all images.
        settings: What the user asks for.
    Raises:
        DataError: If pictures of several depths have no scale in common.
    """
    depths = np.unique(found.depths[rows]).tolist()
    if len(depths) > 1:
        return _mixed(pictures, found, rows, depths, settings)
    kind, known = KINDS[depths[0]], rows[found.highs[rows] != UNKNOWN]
    low, high = (kind.low, kind.high) if not len(known) else (found.lows[known].min(), found.highs[known].max())
    size = _Size(shape, settings.background)
    values = Values(kind, float(low), float(high), _said(found, rows), lambda: some_values(pictures, found, rows, *size))
    scale, notice = choose_scale(settings.range, values)
    return SetScale(scale, notice)


def _said(found: Survey, rows: NDArray[np.int64]) -> tuple[float, float] | None:
    """What all files together say of the range of their values; None if one of them says nothing."""
    low, high = found.said_lows[rows].min(), found.said_highs[rows].max()
    return (float(low), float(high)) if np.isfinite(low) and np.isfinite(high) else None


def _mixed(
    pictures: Pictures, found: Survey, rows: NDArray[np.int64], depths: Sequence[int], settings: PictureSettings
) -> SetScale:
    """A scale for pictures of several depths: values as they are in a range that was given, else each depth from black to white."""
    listed = {KINDS[depth].name: rows[found.depths[rows] == depth] for depth in depths}
    told = " and ".join(f"{name} ({len(which):,}, such as {shown(pictures.names[which.min()])})" for name, which in listed.items())
    if not isinstance(settings.range, str):
        low, high = settings.range
        kind = FLOATS if 0 in depths else Kind("", 0, 0)
        scale = Scale(low, high, stored_as(kind, low, high))
        return SetScale(scale, f"The pictures hold {told}: black is {low:,.10g} and white is {high:,.10g}, as data.range says.")
    for depth in depths:
        which = rows[found.depths[rows] == depth]
        low, high = found.lows[which].min(), found.highs[which].max()
        bottom, top = ENDS.get(depth, WHOLE_16)
        if low < bottom or high > top or settings.range not in ("auto", "dtype") or (depth != 8 and 0 < high < top / 2):
            raise DataError(
                f"The pictures of {pictures.source} hold {told}, of which {KINDS[depth].name} go from {low:,.10g} to {high:,.10g}: "
                "they have no scale in common.",
                "Write them anew with one scale, or say what is black and white in all of them: --set data.range=LOW..HIGH",
            )
    factors = {depth: WHOLE_16[1] / ENDS.get(depth, WHOLE_16)[1] for depth in depths}
    notice = f"The pictures hold {told}: each is taken from its own black to its own white, and kept as 0 to 65,535."
    return SetScale(OF_MIXED_DEPTHS, notice, factors)


def some_values(
    pictures: Pictures, found: Survey, rows: NDArray[np.int64], shape: tuple[int, int, int], background: str
) -> NDArray[np.float32]:
    """Read the values of up to LOOKED_AT pictures, brought to the size of all, float32 [n]; damaged ones are left out.

    Args:
        pictures: The collection.
        found: What is known of it.
        rows: Numbers of the pictures to choose from, int64 [n].
        shape: Channels, height and width; an alpha is left out.
        background: See `decode.decode_deep`.
    """
    chosen = np.sort(rows)[np.unique(np.linspace(0, len(rows) - 1, min(LOOKED_AT, len(rows))).astype(int))].tolist()
    known = rows[found.highs[rows] != UNKNOWN]
    ends = (found.lows[known].min(), found.highs[known].max()) if len(known) else (0.0, 255.0)
    low, high = min(float(ends[0]), 0.0), max(float(ends[1]), float(ends[0]) + 1, 255.0 * (found.depths[rows] == 8).any())
    colours = (3 if shape[0] in (3, 4) else 1, *shape[1:])
    decoders = Decoders()
    work = partial(_values_of, pictures, found, decoders, colours, background, Wanted(low, high, "float32"))
    with quiet_decoders(), closing(over_pictures(work, pictures, chosen, decoders.close)) as parts:
        found_values = {place: part for place, part in parts if part is not None}
    values = [part for _, part in sorted(found_values.items())]
    return np.concatenate(values) if values else np.zeros(1, np.float32)


def _values_of(
    pictures: Pictures,
    found: Survey,
    decoders: Decoders,
    shape: tuple[int, int, int],
    background: str,
    wanted: Wanted,
    read: Read,
    number: int,
) -> NDArray[np.float32] | None:
    try:
        values, _ = decoders.decode_deep(read_again(pictures, found, read, number), shape, background, wanted)
    except UnreadableError:
        return None
    return values.ravel()


def scale_of_one(name: str, header: Header, levels: Levels | None) -> Scale:
    """Choose the scale of a picture that stands alone, by what its file says or its numbers usually are.

    Args:
        name: Of its file.
        header: Of it.
        levels: Its values; None of 8 bits.
    Raises:
        DataError: If nothing says what is black and white in it.
    """
    if levels is None:
        return USUAL
    kind = KINDS[header.depth]
    ends = levels.said or (ENDS.get(header.depth, WHOLE_16) if levels.low >= 0 else (kind.low, kind.high))
    share = (levels.high - max(levels.low, 0)) / (ends[1] - ends[0])
    if levels.low < ends[0] or levels.high > ends[1] or (0 < share < 0.1 and levels.said is None):
        raise DataError(
            f"{name} holds {kind.name} from {levels.low:,.10g} to {levels.high:,.10g}, but nothing says what is black and white.",
            f"Write it as {BITS_8.name} from 0 to 255.",
        )
    return Scale(*ends, "float32")


def skipped_bits_notice(found: Survey, rows: NDArray[np.int64], source: str) -> str:
    """Tell of pictures that have more bits than are read; empty if there are none."""
    count = int(found.cut[rows].sum())
    return f"Of {counted(count)} of {source} only the upper 8 of 16 bits are read, as its colours are packed." if count else ""
