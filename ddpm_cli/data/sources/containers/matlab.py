"""Look into MATLAB's `.mat` files up to version 7.2; later ones are HDF5."""

from __future__ import annotations

import zlib
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data.sources.containers.found import MOST_PACKED, SMALL_BYTES, Found, Stored, guarded, narrowed
from ddpm_cli.data.sources.containers.numpy_files import UNREAD

NUMBERS = {name: np.dtype(name) for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "single")}
NUMBERS |= {"double": np.dtype(np.float64), "logical": np.dtype(np.uint8)}
HEADER, TAG = 128, 8
ORDERS: dict[bytes, Literal["little", "big"]] = {b"IM": "little", b"MI": "big"}
COMPRESSED = 15
"""Type of a compressed element (MAT-File Format, Table 1-1)."""
PIECE = 1 << 20


def open_mat(path: Path) -> Found:
    """Look into a `.mat` file; of its doubles see `narrowed`.

    Raises:
        DataError: If it is damaged, or would unpack to more than pictures can.
    """
    return guarded(path, lambda: _open_mat(path))


def _open_mat(path: Path) -> Found:
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    def load(key: str) -> NDArray[np.generic]:
        try:
            with path.open("rb") as file:
                return narrowed(loadmat(file, variable_names=[key])[key])
        except MatReadError as error:
            raise ValueError(str(error)) from error

    _refuse_bombs(path)
    try:
        with path.open("rb") as file:
            variables = whosmat(file)
    except MatReadError as error:
        raise ValueError(str(error)) from error
    arrays = {}
    for key, shape, kind in variables:
        fault = "" if kind in NUMBERS else f"is a {kind} of MATLAB, no array of numbers"
        arrays[key] = Stored(tuple(shape), NUMBERS.get(kind, UNREAD), partial(load, key), fault)
    return Found(path, arrays)


def _refuse_bombs(path: Path) -> None:
    """Unpack the compressed elements, keeping nothing: what an element says of its size need not be true."""
    most = max(SMALL_BYTES, MOST_PACKED * path.stat().st_size)
    with path.open("rb") as file:
        order = ORDERS.get(file.read(HEADER)[-2:])
        if order is None:  # version 4, which compresses nothing
            return
        unpacked = 0
        while len(tag := file.read(TAG)) == TAG:
            kind, count = (int.from_bytes(tag[start : start + 4], order) for start in (0, 4))
            end = file.tell() + count
            if kind == COMPRESSED:
                unpacked += _unpacked_bytes(file, count, most - unpacked)
            if unpacked > most:
                raise ValueError(f"it would unpack to more than {most / 1e9:,.1f} GB")
            file.seek(end)


def _unpacked_bytes(file: BinaryIO, count: int, most: int) -> int:
    """How many bytes a compressed element has, up to a little more than `most`; damage ends the count."""
    unpacker, found = zlib.decompressobj(), 0
    try:
        while count > 0 and found <= most and (piece := file.read(min(PIECE, count))):
            count -= len(piece)
            while piece and found <= most:
                found += len(unpacker.decompress(piece, PIECE))
                piece = unpacker.unconsumed_tail
    except zlib.error:
        return found
    return found
