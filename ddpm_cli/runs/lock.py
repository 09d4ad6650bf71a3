"""Let one process at a time into a run folder."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ddpm_cli.core.io.files import open_descriptor, output_errors, read_at, write_all
from ddpm_cli.errors import RunError, RunLockedError

if TYPE_CHECKING:
    from ddpm_cli.runs.run_directory import RunDirectory


INSTANT = 0.05
"""Seconds."""
READABLE_FROM = 1 if os.name == "nt" else 0
"""The first byte that others may read: Windows locks byte 0, which is a space."""


@contextlib.contextmanager
def locked(run: RunDirectory) -> Iterator[None]:
    """Hold the run folder for this process.

    The lock is the kernel's (flock, on Windows LockFileEx), so it ends with the process however that dies, and a stale one cannot
    exist. The file stays: it only says who was here, and removing it would let two processes lock two different files of the
    same name. Of filelock it takes the calls on a descriptor: its FileLock takes a file system without locks for one on which
    the file itself is the lock, which a killed process leaves behind, and on Windows removes the file.

    Raises:
        RunLockedError: If another process holds it; the message names that process and its machine.
        RunError: If the file system has no locks.
        OutputError: If the lock file cannot be written.
    """
    from filelock import unlock_descriptor

    with output_errors(run.lock_path):
        descriptor = open_descriptor(run.lock_path, os.O_RDWR | os.O_CREAT)
    try:
        with output_errors(run.lock_path):
            _acquire(descriptor, run)
            content = f" {os.getpid()} {socket.gethostname()}\n".encode()
            write_all(descriptor, content)
            os.ftruncate(descriptor, len(content))
        yield
    finally:
        # Explicitly, because children that were forked meanwhile share the descriptor and closing ours would leave theirs.
        with contextlib.suppress(OSError):
            unlock_descriptor(descriptor)
        os.close(descriptor)


def is_locked(run: RunDirectory) -> bool:
    """Tell whether a process works in the run; no, where that cannot be found out."""
    try:
        descriptor = _opened_to_look(run)
    except OSError:
        return False
    try:
        return not _is_free(descriptor)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _opened_to_look(run: RunDirectory) -> int:
    try:
        return open_descriptor(run.lock_path, os.O_RDWR)  # without which NFS does not lock
    except PermissionError:
        return open_descriptor(run.lock_path, os.O_RDONLY)


def _is_free(descriptor: int) -> bool:
    """Lock a file if nobody else has; another process that only looks, see `is_locked`, has it for an instant."""
    from filelock import lock_descriptor  # a tenth of a second

    if lock_descriptor(descriptor, blocking=False):
        return True
    time.sleep(INSTANT)
    return lock_descriptor(descriptor, blocking=False)


def _acquire(descriptor: int, run: RunDirectory) -> None:
    try:
        if not _is_free(descriptor):
            raise RunLockedError(
                f"Run {run.path} is in use by {_holder(descriptor)}.", "Wait for it, stop it, or work in another run."
            )
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise RunError(
                f"Run {run.path} is on a file system without locks, where two processes could spoil each other's work.",
                "Put the run on another file system, or have locks enabled on this one (Lustre: mount option flock).",
            ) from error
        raise


def _holder(descriptor: int) -> str:
    """The process that wrote itself into the lock file."""
    found = re.fullmatch(rb" ?(\d{1,10}) ([\w.-]{1,255})\n", read_at(descriptor, 300, READABLE_FROM))
    return f"process {found[1].decode()} on {found[2].decode()}" if found else "another process"
