"""Look into HDF5 files, and MATLAB's of version 7.3, which are such. Links are not followed, and other files not opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.extras import require_packages
from ddpm_cli.data.sources.containers.found import MOST_ARRAYS, MOST_PACKED, SMALL_BYTES, Found, Stored, guarded, narrowed
from ddpm_cli.data.sources.containers.numpy_files import UNREAD

MAGIC = b"\x89HDF\r\n\x1a\n"
MATLAB_MAGIC = b"MATLAB 7.3"
SUFFIXES = (".h5", ".hdf5")
FIRST_BLOCK = 512
DEEPEST = 5
"""Groups within groups that are looked into."""


def begins_later(path: Path) -> bool:
    """Tell whether HDF5 begins behind a block of somebody else's bytes: at 512, 1024, 2048 ... (HDF5 File Format, section II.A)."""
    place, size = FIRST_BLOCK, path.stat().st_size
    with path.open("rb") as file:
        while place < size:
            file.seek(place)
            if file.read(len(MAGIC)) == MAGIC:
                return True
            place *= 2
    return False


def open_hdf5(path: Path, *, matlab: bool = False) -> Found:
    """Look into an HDF5 file. Values that lie in one piece are mapped into memory.

    Args:
        path: The file.
        matlab: Whether MATLAB wrote it: its arrays have their axes in reverse, because MATLAB's memory is column by column and
            HDF5's row by row.
    Raises:
        RequestError: If h5py is not installed.
        DataError: If it is damaged.
    """
    require_packages(f"{path.name}, an HDF5 file,", "hdf5", "h5py")
    return guarded(path, lambda: _open_hdf5(path, matlab))


def _open_hdf5(path: Path, matlab: bool) -> Found:
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        arrays: dict[str, Stored] = {}
        for key, item in _items(file, "", DEEPEST, set()):
            if len(arrays) == MOST_ARRAYS:
                raise ValueError(f"it holds more than {MOST_ARRAYS:,} arrays")
            arrays[key] = Stored((), UNREAD, _nothing, item) if isinstance(item, str) else _stored(path, key, item, matlab)
    return Found(path, arrays)


def _nothing() -> NDArray[np.generic]:
    return np.zeros(0)


def _items(group: Any, before: str, deepest: int, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    """Data sets by their path; of links, why they are not followed. A group that is met again is passed over."""
    import h5py

    for name in group:
        key, link = f"{before}{name}", group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            where = f"{link.filename}, {link.path}" if isinstance(link, h5py.ExternalLink) else getattr(link, "path", "elsewhere")
            yield key, f"is a link to {where}, and links are not followed"
            continue
        item = group[name]
        if isinstance(item, h5py.Dataset):
            yield key, item
        elif isinstance(item, h5py.Group) and deepest and item.id not in seen and not name.startswith("#"):
            yield from _items(item, f"{key}/", deepest - 1, seen | {group.id, item.id})


def _stored(path: Path, key: str, item: Any, matlab: bool) -> Stored:
    shape = () if item.shape is None else item.shape[::-1] if matlab else item.shape
    offset = item.id.get_offset() if item.chunks is None else None

    def load() -> NDArray[np.generic]:
        import h5py

        if offset is not None and item_bytes:
            values: NDArray[np.generic] = np.memmap(path, dtype, "c", offset, stored_shape)
        else:
            with h5py.File(path, "r", locking=False) as file:
                values = file[key][()]
        return narrowed(values.T) if matlab else values

    dtype, stored_shape, item_bytes = item.dtype, item.shape, int(item.nbytes)
    return Stored(shape, dtype, load, _fault(item, path.stat().st_size, offset))


def _fault(item: Any, file_bytes: int, offset: int | None) -> str:
    """Why a data set must not be read: values elsewhere, no numbers, or far more of them than the file has room for."""
    if item.external or item.is_virtual:
        return "keeps its values in other files, which are not opened"
    if item.shape is None or item.dtype.kind not in "biuf":
        return "holds no numbers" if item.shape is None else f"holds {item.dtype}, no numbers"
    if offset is not None and offset + item.nbytes > file_bytes:
        return f"is cut off: it would be {item.dtype} {list(item.shape)}, and the file has {file_bytes:,} bytes"
    if item.nbytes > max(SMALL_BYTES, MOST_PACKED * file_bytes):
        return f"is declared as {item.dtype} {list(item.shape)}, more than a file of {file_bytes:,} bytes can hold"
    return ""
