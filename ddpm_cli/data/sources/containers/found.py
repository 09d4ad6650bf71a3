"""Describe the arrays of a file before any of them is read, and bound what reading them takes."""

from __future__ import annotations

import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
from numpy.typing import NDArray

from ddpm_cli.core.io.array_files import ARRAY_ERRORS
from ddpm_cli.core.io.files import UnreadableError, printable
from ddpm_cli.core.wording import first_few
from ddpm_cli.errors import DataError

SMALL_BYTES = 100_000_000
MOST_PACKED = 500
"""Times that a file of images may grow when it is unpacked, if it grows beyond SMALL_BYTES: no pictures are that even."""
MOST_ARRAYS = 1000
FEW_KEYS = 12
READ_ERRORS = (
    *(OSError, *ARRAY_ERRORS, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, AttributeError),
    *(KeyError, IndexError, struct.error, UnreadableError),
)
"""With which NumPy, SciPy and h5py meet damage."""
Read = TypeVar("Read")


@dataclass(frozen=True, eq=False)
class Stored:
    """Describe an array that is not read yet.

    Attributes:
        shape: Of the array.
        dtype: Of its values.
        load: Reads it.
        fault: Why it must not be read; empty if it may be.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    load: Callable[[], NDArray[np.generic]]
    fault: str = ""

    def __str__(self) -> str:
        """Say type and shape, such as `uint8 [5, 28, 28]`, or the fault."""
        return self.fault or f"{self.dtype} {list(self.shape)}"


@dataclass(frozen=True, eq=False)
class Found:
    """Hold what is in a file or folder, not read yet.

    Attributes:
        path: The file or folder.
        arrays: By key; none for what has no keys.
    """

    path: Path
    arrays: Mapping[str, Stored]

    def read(self, key: str) -> NDArray[np.generic]:
        """Read an array.

        Raises:
            DataError: If there is none of that key, or it must not or cannot be read.
        """
        if key not in self.arrays:
            raise DataError(f"{self.path} holds no {printable(key)}, only {self.listed()}.", "Name one of these.")
        stored = self.arrays[key]
        if stored.fault:
            raise DataError(f"{self.path}: {printable(key)} {stored.fault}.", "Store an array of numbers.")
        require_room(stored.dtype.itemsize * int(np.prod(stored.shape, dtype=object)), self.path)
        return guarded(self.path, stored.load)

    def listed(self) -> str:
        """List the keys with types and shapes."""
        return first_few([f"{printable(key)} {stored}" for key, stored in self.arrays.items()], FEW_KEYS) or "nothing"

    def shape(self, key: str) -> tuple[int, ...]:
        """Tell the shape of an array, () if there is none."""
        return self.arrays[key].shape if key in self.arrays else ()


def guarded(path: Path, read: Callable[[], Read]) -> Read:
    """Read something of a file that may be damaged, without the warnings of libraries.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a header is odd: what is wrong with it, an error says
            return read()
    except READ_ERRORS as error:
        reason = printable(str(error).strip().rstrip(".")) or type(error).__name__
        raise DataError(f"{path} cannot be read: {reason}.", "Fetch or write it anew.") from error


def require_room(unpacked: int, path: Path) -> None:
    """Refuse to read far more than a file of pictures packs, or than the memory holds.

    Args:
        unpacked: Bytes that reading takes.
        path: The file, or a folder whose files are packed as little as theirs can be.
    Raises:
        DataError: If it is too much.
    """
    memory = psutil.virtual_memory().total
    packed = unpacked if path.is_dir() else MOST_PACKED * path.stat().st_size
    if unpacked > max(SMALL_BYTES, packed) or unpacked > memory:
        raise DataError(
            f"{path} cannot be read: it would unpack to {unpacked / 1e9:,.1f} GB.",
            f"Store fewer images in it: pictures shrink {MOST_PACKED} times at most, and memory has {memory / 1e9:,.1f} GB.",
        )


def narrowed(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Hand out doubles as uint8 where all are whole numbers from 0 to 255; others stay as they are.

    MATLAB's numbers are doubles unless a program says otherwise, so that pixels in them are no sign of a finer depth.
    """
    if array.dtype != np.float64 or not array.size or not 0 <= array.min() <= array.max() <= 255:
        return array
    whole = array.astype(np.uint8)
    return whole if (whole == array).all() else array
