"""One process at a time in a run folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ddpm_cli.errors import RunError, RunLockedError
from ddpm_cli.files import output_errors, write_all

if TYPE_CHECKING:
    from ddpm_cli.runs.directory import RunDirectory


INSTANT = 0.05
"""Seconds."""


@contextlib.contextmanager
def locked(run: RunDirectory) -> Iterator[None]:
    """Hold the run folder for this process.

    The lock is the kernel's (flock), so it ends with the process however that dies, and a stale one cannot exist. The file
    stays: it only says who was here, and removing it would let two processes lock two different files of the same name.

    Raises:
        RunLockedError: If another process holds it; the message names that process and its machine.
        RunError: If the file system has no locks.
        OutputError: If the lock file cannot be written.
    """
    with output_errors(run.lock_path):
        descriptor = os.open(run.lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    try:
        with output_errors(run.lock_path):
            _acquire(descriptor, run)
            os.ftruncate(descriptor, 0)
            write_all(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
        yield
    finally:
        # Explicitly, because children that were forked meanwhile share the descriptor and closing ours would leave theirs.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def is_locked(run: RunDirectory) -> bool:
    """Whether a process works in the run; no, where that cannot be found out."""
    try:
        descriptor = os.open(run.lock_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    finally:
        os.close(descriptor)
    return False


def _acquire(descriptor: int, run: RunDirectory) -> None:
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # it may have been `is_locked`, which holds it for an instant
            time.sleep(INSTANT)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunLockedError(
            f"Run {run.path} is in use by {_holder(descriptor)}.", "Wait for it, stop it, or work in another run."
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise RunError(
                f"Run {run.path} is on a file system without locks, where two processes could spoil each other's work.",
                "Put the run on another file system, or have locks enabled on this one (Lustre: mount option flock).",
            ) from error
        raise


def _holder(descriptor: int) -> str:
    """The process that wrote itself into the lock file."""
    found = re.fullmatch(rb"(\d{1,10}) ([\w.-]{1,255})\n", os.pread(descriptor, 300, 0))
    return f"process {found[1].decode()} on {found[2].decode()}" if found else "another process"
