"""Choose which stored values of a set are black and white: as its files say, by the container, by its extremes, or as asked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data.scale import USUAL, Scale, Stored

Range = str | tuple[float, float]
"""The setting `data.range`: "auto", "dtype", percentiles such as "1%..99%", or the values that become black and white."""

LEAST_BRIGHT = 25.5
"""A tenth of 8 bits, below which all values of a set are its own affair and white is their largest."""

LEAST_SHARE = 0.5
"""Of a container of more than 8 bits, or of floats, that a set uses if the container's ends are its black and white."""

PERCENTILES = re.compile(r"(\d+(?:\.\d+)?)%\.\.(\d+(?:\.\d+)?)%")


class Kind(NamedTuple):
    """Hold what numbers a set is made of.

    Attributes:
        name: For messages.
        low: The smallest that their container holds; 0 of floats, whose pictures are from 0 to 1 if nobody says else.
        high: The largest; 1 of floats.
        whole: Whether they are whole numbers.
    """

    name: str
    low: float
    high: float
    whole: bool = True


BITS_1 = Kind("truth values", 0, 1)
BITS_8 = Kind("8-bit numbers", 0, 255)
BITS_16 = Kind("16-bit numbers", 0, 65535)
FLOATS = Kind("floats", 0, 1, whole=False)
USUAL_OF_FLOATS = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))


class Values(NamedTuple):
    """Hold what is known of the values of a set.

    Attributes:
        kind: What numbers they are.
        low: The smallest.
        high: The largest.
        said: Black and white as the files themselves say; None if they do not.
        some: Gives some of the values, for percentiles.
        is_window: Whether `said` is a window, beyond which values are cut; else a value beyond it shows that the files err.
    """

    kind: Kind
    low: float
    high: float
    said: tuple[float, float] | None = None
    some: Callable[[], NDArray[np.floating]] | None = None
    is_window: bool = False


def kind_of(dtype: np.dtype[np.generic]) -> Kind:
    """Tell the kind of an array's numbers, which are truth values, whole numbers or floats."""
    if dtype == np.bool_:
        return BITS_1
    if not np.issubdtype(dtype, np.integer):
        return FLOATS
    about = np.iinfo(dtype)  # type: ignore[type-var] # of which it was asked
    sign = "signed " if about.min else ""
    return Kind(f"{sign}{about.bits}-bit numbers", float(about.min), float(about.max))


def choose_scale(setting: Range, values: Values) -> tuple[Scale, str]:
    """Choose the scale of a set.

    Args:
        setting: What the user asks for.
        values: What is known of the set.
    Returns:
        The scale, and what the user must know of it; empty for eight bits from 0 to 255.
    """
    low, high, why = _ends(setting, values)
    if not low < high:  # all values are the same
        low, high = (low, low + 1) if np.float32(low + 1) > np.float32(low) else (low, float(np.nextafter(np.float32(low), np.inf)))
    scale = Scale(low, high, stored_as(values.kind, low, high))
    return scale, "" if scale == USUAL else f"{_named(values, setting)}: black is {low:,.10g} and white is {high:,.10g}, {why}."


def stored_as(kind: Kind, low: float, high: float) -> Stored:
    """Choose how values within a range are kept: whole numbers in as few bits as hold all of the range, else floats."""
    if not kind.whole or low < 0 or not (float(low).is_integer() and float(high).is_integer()):
        return "float32"
    return "uint8" if high <= 255 else "uint16" if high <= 65535 else "float32"


def _named(values: Values, setting: Range) -> str:
    if setting == "auto" or values.low < values.high:
        return f"The pictures hold {values.kind.name} from {values.low:,.10g} to {values.high:,.10g}"
    return f"The pictures hold {values.kind.name}"


def _ends(setting: Range, values: Values) -> tuple[float, float, str]:
    """Black, white, and why they are it."""
    if not isinstance(setting, str):
        return *setting, f"as data.range says ({setting[0]:g}..{setting[1]:g})"
    if setting == "dtype":
        return values.kind.low, values.kind.high, "as data.range = dtype says"
    if match := PERCENTILES.fullmatch(setting):
        assert values.some is not None
        ends = np.percentile(values.some(), [float(match[1]), float(match[2])])
        low, high = (ends.round() if values.kind.whole else ends.astype(np.float32)).tolist()
        return low, high, f"the percentiles of data.range = {setting}"
    return _auto(values)


def _auto(values: Values) -> tuple[float, float, str]:
    kind, low, high = values.kind, values.low, values.high
    if values.said and values.is_window:
        return *values.said, "as the files say"
    if kind in (BITS_8, BITS_1):
        if kind == BITS_8 and (high >= LEAST_BRIGHT or high == 0):
            return 0.0, 255.0, ""
        return (0.0, 1.0, "no and yes") if kind == BITS_1 else (low, high, f"the set's own extremes, as it is dark; {REMEDY}")
    if values.said and values.said[0] <= low and high <= values.said[1]:
        return *values.said, "as the files say"
    for bottom, top in _containers(values):
        if bottom <= low and high <= top:
            if high - low >= LEAST_SHARE * (top - bottom) or low == high:
                return bottom, top, "kept in full depth"
            share = (high - low) / (top - bottom)
            return low, high, f"the set's own extremes, which use {100 * share:.2g} % of {bottom:,.0f} to {top:,.0f}; {REMEDY}"
    return low, high, f"the set's own extremes; {REMEDY}"


REMEDY = "--set data.range=LOW..HIGH for others"


def _containers(values: Values) -> tuple[tuple[float, float], ...]:
    """What such values usually come in, the narrowest first."""
    if not values.kind.whole:
        return USUAL_OF_FLOATS
    ends = [(kind.low, kind.high) for kind in (BITS_8, BITS_16) if values.low >= 0 and kind.high <= values.kind.high]
    return (*ends, (values.kind.low, values.kind.high))


def clipped_notice(outside: int, scale: Scale, where: str = "") -> str:
    """Tell how many values, of all or of some of the images, lie outside of a range."""
    lie = f"1 value{where} lies" if outside == 1 else f"{outside:,} values{where} lie"
    return f"{lie} outside of {scale.low:,.10g} to {scale.high:,.10g} and {'is' if outside == 1 else 'are'} cut to it (data.range)."


def to_stored(values: NDArray[Any], scale: Scale) -> NDArray[Any]:
    """Clip values to a range and keep them as its scale says, whole numbers rounded."""
    if scale.stored == "float32":
        return np.clip(np.asarray(values, np.float32), np.float32(scale.low), np.float32(scale.high))
    return np.asarray(np.rint(np.clip(values, scale.low, scale.high)), scale.stored)
