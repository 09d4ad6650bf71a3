"""Look into NumPy's files: `.npz`, of which the headers of its members tell keys and shapes, and `.npy`. Nothing is unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.array_files import read_array
from ddpm_cli.data.sources.containers.found import MOST_ARRAYS, Found, Stored, guarded, require_room

ZIP_MAGIC, NPY_MAGIC = b"PK", b"\x93NUMPY"
ALONE = "images"
"""Key of the one array of an `.npy` file."""
OBJECTS = "holds Python objects, which would have to be unpickled, and nothing ever is"
UNREAD = np.dtype(np.void)


def open_npz(path: Path) -> Found:
    """Look into an `.npz` file.

    Raises:
        DataError: If it is damaged, or would unpack to more than pictures can.
    """
    return guarded(path, lambda: _open_npz(path))


def open_npy(path: Path) -> Found:
    """Look into an `.npy` file, which is mapped into memory.

    Raises:
        DataError: If it is damaged.
    """
    array: NDArray[np.generic] = guarded(path, lambda: read_array(path.resolve(), mapped="c"))
    return Found(path, {ALONE: Stored(array.shape, array.dtype, lambda: array)})


def _open_npz(path: Path) -> Found:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > MOST_ARRAYS:
            raise ValueError(f"it holds {len(members):,} files, more than {MOST_ARRAYS:,}")
        require_room(sum(member.file_size for member in members), path)
        arrays = {member.filename.removesuffix(".npy"): _stored(archive, member, path) for member in members}
    return Found(path, arrays)


def _stored(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Stored:
    def load() -> NDArray[np.generic]:
        with zipfile.ZipFile(path) as opened, opened.open(member) as file:
            found: NDArray[np.generic] = np.lib.format.read_array(file, allow_pickle=False)
            file.read(1)  # to the end, where zipfile compares the sum
            return found

    with archive.open(member) as file:
        if file.read(len(NPY_MAGIC)) != NPY_MAGIC:
            return Stored((), UNREAD, load, "is no array")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    if dtype.hasobject:
        return Stored(shape, dtype, load, OBJECTS)
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > member.file_size:
        return Stored(shape, dtype, load, f"is cut off: it would be {dtype} {list(shape)}, and has {member.file_size:,} bytes")
    return Stored(shape, dtype, load)
