"""Turn what a user wrote into a path, once; and a path into text that other programs read.

On Linux a name is bytes, which need not be UTF-8: Python keeps such bytes as lone surrogates, which no UTF-8 text can hold. In
files and in JSON such a path is therefore written as a URI, `file:///photos/caf%E9`, which is read again wherever a path is;
people see `/photos/caf\\xe9`.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote_to_bytes

from ddpm_cli.core.io.files import printable, readable
from ddpm_cli.errors import RequestError

URI = "file:///"
LONGEST_SHOWN = 80
"""Characters of a path in a message."""
ROOM = Path(*["x" * 50] * 4)
"""As long as what is written below a folder that is named, such as a run with its checkpoints."""

_REASONS = {
    errno.ENAMETOOLONG: ("is longer than the file system takes", "Choose a shorter one."),
    errno.ELOOP: ("leads in a circle of symbolic links", "Remove the link or choose another path."),
    errno.ENOTDIR: ("leads through a file as if it were a folder", "Choose another path."),
    errno.EACCES: ("leads into a folder that you may not look into", "Have the permission given to you, or choose another path."),
}


class NoPathError(ValueError):
    """Tell that a text stands for no path that could be used here.

    Args:
        reason: Why, a phrase whose subject is the path.
        remedy: What to do about it.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


def parse_path(text: str | os.PathLike[str]) -> Path:
    """Read a path that may be a file: URI; neither `~` nor the disk is looked at.

    Raises:
        NoPathError: If it is empty or holds what no path can.
    """
    written = os.fspath(text)
    if not written:
        raise NoPathError("is empty", "Name a file or a folder; the current folder is called '.'.")
    if written.startswith(URI):
        written = os.fsdecode(unquote_to_bytes(written.removeprefix(URI if os.name == "nt" else URI[:-1])))
    if "\0" in written:
        raise NoPathError("has a NUL character in it, which no name can have", "Remove it.")
    try:
        os.fsencode(written)
    except UnicodeEncodeError:
        raise NoPathError("has half a character in it (a lone surrogate), which no name can have", "Remove it.") from None
    return Path(written)


def user_path(text: str | os.PathLike[str], named_by: str, error: type[RequestError] = RequestError) -> Path:
    """Turn what a user wrote into a path with `~` resolved, which need not exist but can be asked whether it does.

    Args:
        text: As written.
        named_by: The option, argument or key that it was written for.
        error: What to raise.
    Raises:
        RequestError: If it is no path, too long, or cannot be reached; of the kind `error`.
    """
    try:
        path = _with_home(parse_path(text), os.fspath(text))
        _require_within_reach(path)
    except NoPathError as fault:
        shown = f" {_shown(os.fspath(text))}" if os.fspath(text) else ""
        raise error(f"{named_by}{shown} {fault}.", fault.remedy) from fault
    return path


def _with_home(path: Path, written: str) -> Path:
    if not written.startswith("~"):
        return path
    expanded = Path(os.path.expanduser(path))
    if str(expanded).startswith("~") and not os.path.lexists(expanded):
        raise NoPathError(
            "stands for the home folder of a user who is not known here", "Write ./~NAME for a file whose name begins with ~."
        )
    return expanded


def _require_within_reach(path: Path) -> None:
    try:
        mode = _mode(path)
        if mode is None or stat.S_ISDIR(mode):
            _mode(path / ROOM)
    except OSError as error:
        reason, remedy = _REASONS.get(error.errno or 0, (f"cannot be reached ({error.strerror})", "Check the disk."))
        raise NoPathError(reason, remedy) from error


def _mode(path: Path) -> int | None:
    """Kind and permissions of what is there; None where there is nothing, or nothing yet."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


def _shown(written: str) -> str:
    if len(written) <= LONGEST_SHOWN:
        return printable(written)
    return f"{printable(written[:LONGEST_SHOWN])}... ({len(written):,} characters)"


def is_text(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path can be written as UTF-8."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def path_text(path: Path) -> str:
    """Write a path as text from which `parse_path` makes the same one: as it is, or as a URI where it is no UTF-8."""
    return str(path) if is_text(path) else path.absolute().as_uri()


def shell_word(path: Path) -> str:
    """Write a path as a shell takes it; bytes that are no UTF-8 as bash and zsh do, `$'caf\\xe9'`."""
    if is_text(path):
        return shlex.quote(str(path))
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{readable(escaped)}'"


@contextmanager
def text_alias(path: Path) -> Iterator[Path]:
    """Give a path to the same file or folder that libraries can take which refuse names that are no UTF-8."""
    if is_text(path):
        yield path
        return
    import tempfile  # which takes long for what is needed this rarely

    with tempfile.TemporaryDirectory(prefix="ddpm-") as folder:
        alias = Path(folder, f"alias{path.suffix if is_text(path.suffix) else ''}")
        alias.symlink_to(path.absolute())
        yield alias
