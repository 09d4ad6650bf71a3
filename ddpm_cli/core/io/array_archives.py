"""Write and read NumPy's .npz files, archives of arrays: one image at a time, and of a stranger's only what fits."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psutil

from ddpm_cli.core.io.array_files import ARRAY_ERRORS
from ddpm_cli.core.io.files import UnreadableError, open_regular, printable, replacing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ARCHIVE_ERRORS = (*ARRAY_ERRORS, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, AttributeError)
"""With which the zip reader and NumPy meet damage, passwords and unknown compression."""
SMALL_BYTES = 100_000_000
MOST_PACKED = 500
"""Times that an array may be larger than its compressed bytes, if it is larger than SMALL_BYTES: no pictures are that even."""
PART_BYTES = 1 << 22
"""Read at a time."""
LOCAL_HEADER, NAME_AND_EXTRA = 30, 26
"""Bytes of a zip member's local header before its name, and where in it two numbers tell the lengths of name and extra."""


class ImageArchive:
    """Write images into a member of an open archive as they are drawn, then labels.

    The bytes are those of `numpy.savez(file, images, labels)`: stored, not compressed, as `arr_0` and `arr_1`.

    Args:
        archive: Open for writing.
        count: Images to come.
        shape: Height, width and channels of each.
    """

    def __init__(self, archive: zipfile.ZipFile, count: int, shape: tuple[int, int, int]) -> None:
        self._archive, self._count, self._shape = archive, count, shape
        self._member = archive.open("arr_0.npy", "w", force_zip64=True)
        _write_header(self._member, "|u1", (count, *shape))
        self._written = 0

    def add(self, images: NDArray[np.uint8]) -> None:
        """Write the next images, uint8 [B, H, W, C].

        Raises:
            ValueError: If they are other numbers.
        """
        import numpy as np

        if images.dtype != np.uint8:
            raise ValueError(f"images of {images.dtype} where uint8 was announced")
        self._member.write(np.ascontiguousarray(images).data)
        self._written += len(images)

    def end(self) -> None:
        """End the images."""
        self._member.close()

    def close(self, labels: NDArray[np.int64] | None) -> None:
        """End the images, and write their labels, int64 [N], if there are any.

        Raises:
            ValueError: If other than `count` images were added.
        """
        self.end()
        if self._written != self._count:
            raise ValueError(f"{self._written} images were written where {self._count} were announced")
        if labels is not None:
            with self._archive.open("arr_1.npy", "w", force_zip64=True) as member:
                _write_header(member, "<i8", labels.shape)
                member.write(labels.astype("<i8").tobytes())


@contextmanager
def image_archive(
    path: Path, count: int, shape: tuple[int, int, int], labels: NDArray[np.int64] | None = None
) -> Iterator[ImageArchive]:
    """Open an archive of images, which appears at the end of the block, whole or not at all.

    Args:
        path: The file.
        count: Images to come.
        shape: Height, width and channels of each.
        labels: Their classes, int64 [count]; None where there are none.
    Raises:
        SaveFailedError: If it cannot be written.
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED) as archive:
        images = ImageArchive(archive, count, shape)
        try:
            yield images
        except BaseException:
            images.end()  # an archive with an open member would raise another error
            raise
        images.close(labels)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as `numpy.savez_compressed` does, whole or not at all.

    Raises:
        SaveFailedError: If they cannot be written.
    """
    import numpy as np

    with replacing(path) as temporary, open(temporary, "xb") as file:
        np.savez_compressed(file, **dict(arrays))  # type: ignore[arg-type]


def read_keys(path: Path) -> tuple[str, ...]:
    """List the arrays of an archive.

    Raises:
        UnreadableError: If it is no such archive.
        OSError: If it cannot be opened.
    """
    with _opened(path) as (_, archive):
        return tuple(name.removesuffix(".npy") for name in archive.namelist())


def read_member(path: Path, key: str) -> NDArray[Any]:
    """Read one array; a stored one stays in the file, and what is looked at is brought in.

    Args:
        path: The archive.
        key: Of the array.
    Raises:
        UnreadableError: If it is missing, damaged, holds objects, or would not fit into memory.
        OSError: If the file cannot be opened.
    """
    import numpy as np

    with _opened(path) as (file, archive):
        try:
            entry = archive.getinfo(f"{key}.npy")
        except KeyError:
            raise UnreadableError(f"has no array {key}") from None
        with archive.open(entry) as member:
            shape, fortran, dtype, start = _read_header(member)
            if dtype.hasobject:
                raise UnreadableError(f"holds Python objects as {key}, which are not read")
            size = dtype.itemsize * int(np.prod(shape, dtype=object))
            if entry.file_size != start + size:
                raise UnreadableError(f"is truncated or damaged: {key} has {entry.file_size - start:,} bytes, not {size:,}")
            if entry.compress_type == zipfile.ZIP_STORED:
                order: Any = "F" if fortran else "C"
                offset = _data_offset(file, entry) + start
                return np.memmap(path, dtype, "c", offset, shape, order) if size else np.zeros(shape, dtype)
            _require_room(entry, key)
            flat = np.frombuffer(_read_exactly(member, size), dtype)
            return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _write_header(member: IO[bytes], descr: str, shape: tuple[int, ...]) -> None:
    import numpy as np

    np.lib.format.write_array_header_1_0(member, {"descr": descr, "fortran_order": False, "shape": shape})


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, order, type, and how many bytes it took to say so."""
    import numpy as np

    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise UnreadableError(f"holds an array of version {version} of its format, which NumPy writes for named fields alone")
    return *read(member), member.tell()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], zipfile.ZipFile]]:
    with open(open_regular(path), "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield file, archive
        except UnreadableError:
            raise
        except ARCHIVE_ERRORS as error:
            raise UnreadableError(f"is truncated or no archive of arrays ({printable(str(error)).rstrip('.')})") from error


def _data_offset(file: IO[bytes], entry: zipfile.ZipInfo) -> int:
    file.seek(entry.header_offset + NAME_AND_EXTRA)
    lengths = file.read(4)
    return entry.header_offset + LOCAL_HEADER + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")


def _require_room(entry: zipfile.ZipInfo, key: str) -> None:
    free = psutil.virtual_memory().available
    if entry.file_size > max(SMALL_BYTES, MOST_PACKED * entry.compress_size) or entry.file_size > free:
        raise UnreadableError(f"would unpack {key} to {entry.file_size / 1e9:,.1f} GB; {free / 1e9:,.1f} GB of memory are free")


def _read_exactly(member: IO[bytes], size: int) -> bytearray:
    data, done = bytearray(size), 0
    while done < size:
        part = member.read(min(size - done, PART_BYTES))
        if not part:
            raise UnreadableError("is truncated")
        data[done : done + len(part)] = part
        done += len(part)
    return data
