"""Hold one scan as slices, and refuse one that claims to be far larger than its file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import psutil
from numpy.typing import NDArray

from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.data.sources.containers.found import MOST_PACKED, SMALL_BYTES

EXTRA = "medical"
MOST_CHANNELS = 16
Slice = NDArray[np.generic]
Range = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Volume:
    """Hold the slices of one file or series.

    Attributes:
        slices: Each [H, W] or [H, W, C], upright, whole numbers or float32, in the order in which they lie.
        ranges: Every pair of values that the file says are black and white, of any slice.
        says_all: Whether it says that of all its slices.
        oriented: Whether it says how it lies in the body, where its format can.
    """

    slices: list[Slice]
    ranges: frozenset[Range] = frozenset()
    says_all: bool = False
    oriented: bool = True


def require_plausible(declared: int, size: int, *, packed: bool) -> None:
    """Refuse to make room for far more bytes than a file can hold.

    Args:
        declared: Bytes of the pixels, as the header has it.
        size: Bytes in the file.
        packed: Whether the pixels are compressed.
    Raises:
        UnreadableError: With both numbers.
    """
    most = max(SMALL_BYTES, MOST_PACKED * size) if packed else size
    if declared > min(most, psutil.virtual_memory().total):
        raise UnreadableError(f"declares {declared:,} bytes of pixels, but the file has {size:,}{' packed' if packed else ''}")


def plain_numbers(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Bring values to this machine's byte order, floats to float32, and whole numbers to as few bits as hold them, at least 16.

    Raises:
        UnreadableError: If they are no real numbers, or not all finite.
    """
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.dtype.kind == "f":
        floats = values.astype(np.float32)
        if not np.isfinite(floats).all():
            raise UnreadableError("holds values that are not finite")
        return floats
    if values.dtype.kind not in "iu":
        raise UnreadableError(f"holds values of the type {values.dtype}, not real numbers")
    if values.dtype.itemsize <= 2 or not values.size:
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    low, high = int(values.min()), int(values.max())
    for kind in (np.uint16, np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return values.astype(kind)
    return values.astype(np.float32)
