"""List the pictures in a tar archive, and read them: at any place of a plain one, in their order of a packed one."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ddpm_cli.core.extras import require_packages
from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.data.archives.contents import (
    DEVICE,
    LINK,
    MOST_MEMBERS,
    MOST_PICTURE_BYTES,
    OUTSIDE,
    SPARSE,
    Contents,
    plain_name,
    require_modest,
)
from ddpm_cli.data.placing.tables import is_too_large, kind_of, text_of

BLOCK = 512
STEP = 1 << 16
MOST_HEADER_BYTES = 1 << 24
"""That one header may take, with a long name or other notes."""

MOST_WINDOW = 1 << 27
"""Bytes that a zstd stream may look back, as the program itself takes it."""

TAR, GZIP, ZSTD = (".tar",), (".tar.gz", ".tgz"), (".tar.zst", ".tzst")
SUFFIXES = (*TAR, *GZIP, *ZSTD)


def is_packed(path: Path) -> bool:
    """Tell whether a tar can be read only from its start."""
    return path.name.lower().endswith((*GZIP, *ZSTD))


class Forward:
    """Read the unpacked bytes of a file from the first to the last, within bounds, and skip some of them.

    Attributes:
        header: What was read last for a header.
    """

    def __init__(self, file: Any, packed: int) -> None:
        self._file, self._packed, self._at = file, packed, 0
        self.header = b""

    def tell(self) -> int:
        """Tell how many bytes were read or skipped."""
        return self._at

    def seek(self, place: int, whence: int = 0) -> int:
        """Move to a place ahead."""
        if whence or place < self._at:
            raise UnreadableError("is damaged: a member begins before the end of the one before")
        while self._at < place and self._take(min(STEP, place - self._at)):
            pass
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read as many bytes as a header has."""
        if size < 0 or size > MOST_HEADER_BYTES:
            raise UnreadableError(f"has a header of more than {MOST_HEADER_BYTES:,} bytes")
        self.header = self.content(size)
        return self.header

    def content(self, size: int) -> bytes:
        """Read as many bytes as a member has; fewer at the end."""
        found = []
        while size and (data := self._take(min(size, STEP))):
            found.append(data)
            size -= len(data)
        return b"".join(found)

    def _take(self, size: int) -> bytes:
        data: bytes = self._file.read(size)
        self._at += len(data)
        require_modest(self._at, self._packed)
        return data


@contextmanager
def opened(path: Path) -> Iterator[Forward]:
    """Open a tar, packed or not, to be read once.

    Raises:
        UnreadableError: If it is damaged, in the block too.
        RequestError: If the package that unpacks it is missing.
    """
    packed = path.stat().st_size
    with path.open("rb") as file:
        try:
            with _unpacked(path, file) as unpacked:
                yield Forward(unpacked, packed)
        except EOFError as error:
            raise UnreadableError("is cut off") from error
        except (gzip.BadGzipFile, zlib.error, tarfile.TarError, OverflowError) as error:
            raise UnreadableError(f"is damaged or cut off: {str(error).rstrip('.')}") from error


@contextmanager
def _unpacked(path: Path, file: BinaryIO) -> Iterator[Any]:
    name = path.name.lower()
    if name.endswith(GZIP):
        with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
            yield unpacked
    elif name.endswith(ZSTD):
        require_packages(f"The archive {path.name}", "zstd", "zstandard")
        import zstandard

        try:
            with zstandard.ZstdDecompressor(max_window_size=MOST_WINDOW).stream_reader(file, read_across_frames=True) as unpacked:
                yield unpacked
        except zstandard.ZstdError as error:
            raise UnreadableError(f"is damaged or cut off: {error}") from error
    else:
        yield file


def list_tar(path: Path, *, wants_json: bool = False) -> Contents:
    """List what is in a tar by reading all of its headers.

    Args:
        path: The archive.
        wants_json: As `Contents` has it.
    Raises:
        UnreadableError: If it is cut off, damaged, or unpacks to too much.
        OSError: If it cannot be read.
        RequestError: If the package that unpacks it is missing.
    """
    found = Contents(wants_json=wants_json)
    with opened(path) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:  # type: ignore[call-overload]  # all it uses are read, seek and tell
                while member := tar.next():
                    tar.members = []  # of which it would keep all
                    _add(found, file, member)
                end = tar.offset
        except (ValueError, UnicodeError) as error:  # numbers in headers that are none
            if isinstance(error, UnreadableError):
                raise
            raise UnreadableError(f"is damaged: {error}") from error
        _require_end(file, end)
    return found.without_twins()


def _require_end(file: Forward, end: int) -> None:
    """Refuse a tar that does not end with a block of zeros: tarfile stops at a damaged header, or at none, without a word.

    A packed one is read to its very end, where the sum of its bytes is.
    """
    last = file.header
    if not last:
        raise UnreadableError("is cut off: it lacks the end that every tar has")
    if last.strip(b"\0"):
        raise UnreadableError(f"is damaged: at byte {end:,}, unpacked, there is no header of a member")
    while file.content(STEP):
        pass


def _add(found: Contents, file: Forward, member: tarfile.TarInfo) -> None:
    if len(found.names) + found.others > MOST_MEMBERS:
        raise UnreadableError(f"has more than {MOST_MEMBERS:,} members")
    if member.size < 0:
        raise UnreadableError(f"is damaged: {member.name} has a size below 0")
    try:
        name = plain_name(member.name)
    except UnreadableError as error:
        found.leave_out(str(error) or OUTSIDE)
        return
    if name is None:
        return
    if member.isdir():
        found.folders.append(f"{name}/")
    elif member.issym() or member.islnk():
        found.leave_out(LINK)
    elif not member.isreg():
        found.leave_out(DEVICE)
    elif member.issparse():
        found.leave_out(SPARSE)
    else:
        _add_file(found, file, name, member)


def _add_file(found: Contents, file: Forward, name: str, member: tarfile.TarInfo) -> None:
    kind = kind_of(name, wants_json=found.wants_json)
    if kind == "picture":
        found.add(name, member.size, member.offset_data)
    elif kind == "other" or is_too_large(kind, name, member.size):
        found.add_other(name)
    else:
        (found.tables if kind == "table" else found.marks)[name] = text_of(file.content(member.size))


def stream_tar(path: Path, places: Sequence[int], sizes: Sequence[int], order: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Read the pictures of a packed tar from the first to the last, without a step back.

    Args:
        path: The archive.
        places: Where the bytes of each picture begin, as unpacked.
        sizes: How many each has.
        order: Numbers of the pictures, in the order of their places.
    Yields:
        The number of each picture and its bytes; none of one that is too large to be a picture.
    Raises:
        UnreadableError: If it is damaged.
    """
    with opened(path) as file:
        for number in order:
            file.seek(places[number])
            yield number, file.content(sizes[number]) if sizes[number] <= MOST_PICTURE_BYTES else b""
