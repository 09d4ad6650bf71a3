"""Write files that are either wholly there or not at all, and read what may be a stranger's.

Everything is written under a temporary name in the same folder, synced and renamed. A kill at any instant leaves the old
file, or none, and perhaps a temporary one, which the next writer of the same file removes, or `sweep_temporaries`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ddpm_cli.core.io.temporaries import TEMPORARY_PREFIX, remove, remove_abandoned, temporary_path
from ddpm_cli.errors import OutputError, RequestError, SaveFailedError

JSON_LIMIT = 10_000_000
"""Largest JSON or TOML file that is read, in bytes: a stranger's file must not fill the memory."""

LONGEST_TEXT = 200
"""Characters of a stranger's text that are shown."""

_SURROGATES = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = "\\ud"
"""How the JSON text of one begins, alone or as a part of a pair."""
STDOUT = "-"

_FAILURES = {
    errno.ENOSPC: ("the disk is full", "Free some space or choose another folder."),
    errno.EDQUOT: ("your disk quota is used up", "Free some space or choose another folder."),
    errno.EFBIG: ("the file would exceed the largest size allowed", "Raise the limit (ulimit -f) or choose another file system."),
}
_NO_INODES = (
    "the disk is full: it has room, but no inodes for more files",
    "Remove files that nobody needs (df -i counts them) or choose another folder.",
)
_WRONG_PATHS = {
    errno.EROFS: ("the file system is read-only", "Choose another folder."),
    errno.EACCES: ("permission denied", "Choose a folder that you may write to."),
    errno.EPERM: ("permission denied", "Choose a folder that you may write to."),
    errno.ENOENT: ("its folder does not exist", "Create the folder first or choose another one."),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "Choose another path."),
    errno.EISDIR: ("it is a folder", "Name a file."),
    errno.EEXIST: ("a file of that name is in the way", "Remove it or choose another name."),
    errno.ELOOP: ("it is a symbolic link", "Remove the link or choose another path."),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter one."),
}


class UnreadableError(ValueError):
    """Tell that a file is not what it should be; the message says why, without naming the file."""


_UNFINISHED: set[Path] = set()
"""Temporary files and folders that a block of this process is writing."""


@contextlib.contextmanager
def output_errors(path: Path, kind: type[OutputError] | None = None) -> Iterator[None]:
    """Turn an OSError inside the block into an error about `path`.

    Args:
        path: What the user, or the cache, calls it.
        kind: The class of the error; if None, OutputError for a path that is wrong and SaveFailedError for a disk that failed.
    """
    try:
        yield
    except OSError as error:
        raise _output_error(path, error, kind) from error


def _output_error(path: Path, error: OSError, kind: type[OutputError] | None) -> OutputError:
    number = error.errno or 0
    fallback = (error.strerror or str(error), "Check the disk or choose another folder.")
    reason, remedy = (_FAILURES | _WRONG_PATHS).get(number, fallback)
    if number == errno.ENOSPC and _lacks_inodes(path.parent):
        reason, remedy = _NO_INODES
    kind = kind or (OutputError if number in _WRONG_PATHS else SaveFailedError)
    return kind(f"Cannot write {path}: {reason}.", remedy)


def _lacks_inodes(folder: Path) -> bool:
    """Whether files are scarcer than bytes on the disk of a folder; no, where it does not count them."""
    with contextlib.suppress(OSError, AttributeError):
        disk = os.statvfs(folder)
        return disk.f_favail * disk.f_blocks < disk.f_bavail * disk.f_files
    return False


@contextlib.contextmanager
def input_errors(
    named: Path | str, error: type[RequestError], remedy: str, out_of_reach: str = "Check the disk and its permissions."
) -> Iterator[None]:
    """Turn what can go wrong with reading a file inside the block into an error of the given kind.

    Args:
        named: The file, as the message names it.
        error: The kind.
        remedy: What to do about a file that is not what it should be.
        out_of_reach: What to do about one that cannot be opened or read.
    """
    try:
        yield
    except UnreadableError as fault:
        raise error(f"{named} {fault}.", remedy) from fault
    except OSError as fault:
        raise error(f"{named} cannot be read ({fault.strerror}).", out_of_reach) from fault


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `path` at the end of the block.

    On an exception the temporary file is removed and what `path` was before stays. A symbolic link at `path` is replaced
    itself, its target is not written to. Inside a block that fills a temporary file or folder, `path` is that or in it: it is
    written as it is, since the outer block publishes it and tells of its errors by the name that the user knows.

    Args:
        path: The file to create or replace; its folder must exist.
    Raises:
        SaveFailedError: If it cannot be written (disk full, quota, read-only, no folder, no permission).
    """
    if not _UNFINISHED.isdisjoint((path, *path.parents)):
        yield path
        return
    remove_abandoned(path)
    temporary = temporary_path(path)
    try:
        with output_errors(path, SaveFailedError), _unfinished(temporary):
            yield temporary
            sync_path(temporary)
            os.replace(temporary, path)
            sync_path(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def _unfinished(temporary: Path) -> Iterator[None]:
    _UNFINISHED.add(temporary)
    try:
        yield
    finally:
        _UNFINISHED.discard(temporary)


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`, which is gone at the end of the block unless it was renamed.

    Raises:
        OSError: If it cannot be made.
    """
    remove_abandoned(path)
    temporary = temporary_path(path)
    try:
        os.mkdir(temporary)
        with _unfinished(temporary):
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; it becomes `path` at the end of the block, whole or, on an exception, not at all.

    Args:
        path: The folder to make, which may be there if it is empty; the folder above it must exist.
    Raises:
        SaveFailedError: If it cannot be made, see `replacing`.
    """
    with output_errors(path, SaveFailedError), scratch_folder(path) as temporary:
        yield temporary
        _sync_below(temporary)
        if path.is_dir():
            os.rmdir(path)  # it is empty; Windows puts no folder in the place of another
        os.replace(temporary, path)
        sync_path(path.parent)


@contextlib.contextmanager
def adding_files(folder: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; its files go into `folder` at the end of the block, on an exception none of them.

    Args:
        folder: Made if it is not there; the folder above it must exist. Files of the same names are replaced.
    Raises:
        SaveFailedError: If something cannot be written, see `replacing`.
    """
    if not folder.is_dir():
        with new_folder(folder) as temporary:
            yield temporary
        return
    with output_errors(folder, SaveFailedError), scratch_folder(folder / "files") as temporary:
        yield temporary
        _sync_below(temporary)
        for path in sorted(temporary.iterdir()):
            os.replace(path, folder / path.name)
        sync_path(folder)


def _sync_below(folder: Path) -> None:
    for below, _, names in os.walk(folder):
        for name in [*names, ""]:
            sync_path(Path(below) / name)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        OutputError: If it cannot be made.
    """
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def require_new_folder(path: Path) -> None:
    """Refuse a folder that cannot be made, or that there is already with something in it.

    Raises:
        OutputError: See `require_writable_parent`.
    """
    if path.is_dir() and not any(path.iterdir()):
        return
    if os.path.lexists(path):
        raise OutputError(f"Cannot write {path}: something of that name is in the way.", "Remove it or choose another name.")
    require_writable_parent(path)


def atomic_write(path: Path, content: bytes | str) -> None:
    """Create or replace `path` as a whole; text is written as UTF-8.

    Raises:
        SaveFailedError: If it cannot be written; what was there before stays.
    """
    with replacing(path) as temporary:
        write_new(temporary, content)


def create(path: Path, content: str) -> None:
    """Write a file that must not exist yet, as UTF-8; nothing stays of one that could not be written.

    Raises:
        OutputError: If there is something of that name, or it cannot be written.
    """
    with output_errors(path):
        try:
            write_new(path, content)
        except FileExistsError:
            raise
        except OSError:
            path.unlink(missing_ok=True)
            raise


def write_new(path: Path, content: bytes | str) -> None:
    """Write a file that must not exist yet and sync it.

    Raises:
        OSError: If it exists or cannot be written.
    """
    data = readable(content).encode() if isinstance(content, str) else content
    descriptor = open_descriptor(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte: one os.write may take only a part, for instance when the disk fills up or above 2 GiB."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync_path(path: Path) -> None:
    """Wait until the file's bytes, or the folder's names, are on the disk.

    Raises:
        OSError: If the disk reports an error.
    """
    if os.name == "nt" and path.is_dir():  # Windows cannot sync the names in a folder
        return
    flags = os.O_RDWR if os.name == "nt" else os.O_RDONLY  # nor a file that is open for reading alone
    descriptor = open_descriptor(path, flags, follow=True)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder: they keep its names on the server at once.
        if not (error.errno in (errno.EINVAL, errno.ENOTSUP) and path.is_dir()):
            raise
    finally:
        os.close(descriptor)


def require_writable_parent(path: Path) -> None:
    """Refuse an output path before the work that would be lost with it.

    Raises:
        OutputError: If the folder does not exist or may not be written to, if `path` is something other than a file, or if it is
            "-", by which people mean stdout.
    """
    if str(path) == STDOUT:
        raise OutputError(f'"{STDOUT}" names no file, and results are not written to stdout.', "Name a file.")
    with output_errors(path):
        parent = os.stat(path.parent)
        if not stat.S_ISDIR(parent.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "not a folder")
        if hasattr(os, "statvfs") and os.statvfs(path.parent).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, "read-only")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "not writable")
        with contextlib.suppress(FileNotFoundError):
            _require_regular(os.stat(path).st_mode)
    if holds_nothing(path.parent):
        _require_trial(path)


def holds_nothing(folder: Path) -> bool:
    """Tell whether a file system counts neither blocks nor files, as /proc and /sys do: they take nothing."""
    if not hasattr(os, "statvfs"):
        return False
    disk = os.statvfs(folder)
    return disk.f_blocks == disk.f_files == 0


def _require_trial(path: Path) -> None:
    """Refuse a path beside which nothing can be made: some file systems over a network do not count either, and take files."""
    try:
        with scratch_folder(path):
            pass
    except OSError as error:
        raise OutputError(f"Cannot write {path}: the folder {path.parent} takes no files.", "Choose another folder.") from error


def require_writable_folder(folder: Path) -> None:
    """Refuse a folder for outputs that neither can be written to nor could be made.

    Raises:
        OutputError: See `require_writable_parent`.
    """
    require_writable_parent(folder / "file" if folder.is_dir() else folder)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"Cannot write to {folder}: it is a file.", "Name a folder.")


def _require_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a folder")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe, which cannot be replaced as a whole")


def sweep_temporaries(folder: Path) -> list[str]:
    """Remove what a killed process left half written in `folder` (not below it).

    Only for folders that no other process is writing to: call it under the run's lock.

    Returns:
        The names that were removed.
    Raises:
        OutputError: If one cannot be removed.
    """
    if not folder.is_dir():
        return []
    leftovers = sorted(path for path in folder.iterdir() if path.name.startswith(TEMPORARY_PREFIX))
    for path in leftovers:
        with output_errors(path):
            remove(path)
    return [path.name for path in leftovers]


def discard_folder(folder: Path) -> None:
    """Remove a folder such that a kill meanwhile leaves it whole or under a temporary name, never half there.

    Raises:
        OSError: If it cannot be removed.
    """
    temporary = temporary_path(folder)
    os.rename(folder, temporary)
    remove(temporary)


def open_descriptor(path: str | os.PathLike[str], flags: int, *, follow: bool = False) -> int:
    """Open a file such that no pipe makes us wait, no link leads elsewhere, and no system translates line ends.

    Args:
        path: The file; one that is made may be read and written by whom the umask lets.
        flags: As for os.open.
        follow: Whether links are followed.
    Raises:
        OSError: If it cannot be opened; errno.ELOOP for a link.
    """
    if not follow and not hasattr(os, "O_NOFOLLOW") and os.path.islink(path):
        raise OSError(errno.ELOOP, "it is a symbolic link")
    named = ("O_NONBLOCK", "O_BINARY") if follow else ("O_NONBLOCK", "O_BINARY", "O_NOFOLLOW")
    return os.open(path, flags | sum(getattr(os, name, 0) for name in named), 0o666)


_seeking = threading.Lock()


def write_at(descriptor: int, data: memoryview, offset: int) -> None:
    """Write every byte at a place in a file, from any thread."""
    while data:
        written = _pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _pwrite(descriptor: int, data: memoryview, offset: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, offset)
    with _seeking:  # on Windows
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.write(descriptor, data)


def read_at(descriptor: int, count: int, offset: int) -> bytes:
    """Read at most `count` bytes from a place in a file, from any thread."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, offset)
    with _seeking:  # on Windows
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, count)


def open_regular(path: Path) -> int:
    """Open an ordinary file for reading; links, pipes and devices, on which a stranger's folder could make us hang, are refused.

    Returns:
        A file descriptor.
    Raises:
        UnreadableError: If it is missing or no ordinary file.
        OSError: If it cannot be opened, which says nothing about the file.
    """
    try:
        descriptor = open_descriptor(path, os.O_RDONLY)
    except FileNotFoundError:
        raise UnreadableError("is missing") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnreadableError("is a symbolic link") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableError("is not an ordinary file")
    return descriptor


def read_bytes(path: Path, limit: int) -> bytes:
    """Read an ordinary file of at most `limit` bytes.

    Raises:
        UnreadableError: If it is missing, larger or no ordinary file.
        OSError: If it cannot be opened or read.
    """
    with open(open_regular(path), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise UnreadableError(f"is larger than {limit:,} bytes")
    return data


def read_text(path: Path, limit: int = JSON_LIMIT) -> str:
    """Read an ordinary UTF-8 file of at most `limit` bytes as text.

    Raises:
        UnreadableError: If it is missing, larger, not UTF-8 or no ordinary file.
        OSError: If it cannot be opened or read.
    """
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError as error:
        raise UnreadableError("is not UTF-8 text") from error


def bytes_below(path: Path) -> int:
    """Count the bytes of all files below a folder, or of a file; links are not followed, and what cannot be read counts nothing."""
    if not path.is_dir():
        return _size(path)
    return sum(_size(Path(folder, name)) for folder, _, names in os.walk(path) for name in names)


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def read_json_object(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file, which may come from a stranger.

    Raises:
        UnreadableError: If it is missing, too large, nested too deeply, or not a JSON object.
        OSError: If it cannot be opened or read.
    """
    value = parse_json(read_text(path))
    if not isinstance(value, dict):
        raise UnreadableError("is not a JSON object")
    return value


def parse_json(text: str) -> Any:
    """Parse a stranger's JSON text.

    Raises:
        UnreadableError: If it is nested too deeply or not JSON.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise UnreadableError("is nested too deeply") from error
    except ValueError as error:
        raise UnreadableError(f"is not valid JSON ({error})") from error


def to_json(value: object) -> str:
    """Write JSON text that ends in a newline; floats keep every bit, and NaN and infinity are written as Python reads them.

    Raises:
        ValueError: If it would be larger than what is read again.
    """
    text = json.dumps(value, indent=2) + "\n"
    if _SURROGATE_ESCAPE in text:
        text = json.dumps(readable_values(value), indent=2) + "\n"
    if len(text) > JSON_LIMIT:  # ASCII, one byte a character
        raise ValueError(f"{len(text):,} bytes of JSON exceed the {JSON_LIMIT:,} that are read again")
    return text


def printable(text: str) -> str:
    """Shorten a stranger's text to its start, without the control characters by which it could write over a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in readable(text)[:LONGEST_TEXT])


def readable(text: str) -> str:
    """Make text that is UTF-8 throughout: other bytes of a file's name, which Python keeps as lone surrogates, become `\\xe9`."""
    return _SURROGATES.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def readable_values(value: Any) -> Any:
    """Make all text `readable` in a value that becomes JSON: strict readers refuse a lone surrogate."""
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, Mapping):
        return {readable_values(key): readable_values(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [readable_values(inner) for inner in value]
    return value
