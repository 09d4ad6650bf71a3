"""Tell from the name of a temporary file whose it is, so that those of killed processes are cleared away and no others.

    .ddpm-tmp-TARGET-SPACE-PROCESS-RANDOM.png

TARGET is a sum of the name that the file is to get, SPACE one of the machine, its boot and its process namespace, and PROCESS the
number of the writer. Within one space a number that no process has means that the writer is gone; a number that was given again
only keeps a file longer than needed. What another machine, another container or an earlier boot left is never judged.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import secrets
import shutil
import sys
from functools import cache, lru_cache
from pathlib import Path

TEMPORARY_PREFIX = ".ddpm-tmp-"

LONGEST_SUFFIX = 32
"""Bytes. More are no suffix of a format, and could make a temporary name too long where the name itself is not."""


def temporary_path(path: Path) -> Path:
    """Make a fresh name beside `path`; it keeps the suffix, from which writers of images infer the format."""
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= LONGEST_SUFFIX else ""
    return path.parent / f"{_start(path)}{os.getpid()}-{secrets.token_hex(4)}{suffix}"


def _start(path: Path) -> str:
    return f"{TEMPORARY_PREFIX}{_sum(path.name)}-{process_space()}-"


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]


@cache
def process_space() -> str:
    """Name what two processes share only if each sees the other's number; where that cannot be known, no other does."""
    facts = [platform.node()]
    try:
        if sys.platform == "linux":
            facts += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
        else:
            import uuid

            facts += [sys.platform, str(uuid.getnode())]
    except OSError:
        facts += [secrets.token_hex(16)]
    return _sum(" ".join(facts))


def remove_abandoned(path: Path) -> None:
    """Remove what killed writers of `path` left beside it; what cannot be removed stays, as it is in nobody's way."""
    writer = re.compile(re.escape(_start(path)) + r"(\d{1,9})-")
    for name in own_temporaries(os.path.abspath(path.parent)):
        found = writer.match(name)
        if found and not _is_running(int(found[1])):
            with contextlib.suppress(OSError):
                remove(path.parent / name)


@lru_cache(maxsize=64)
def own_temporaries(folder: str) -> tuple[str, ...]:
    """List those that lay in a folder when this process first wrote there: a large folder is not listed for each of its files."""
    with contextlib.suppress(OSError):
        return tuple(name for name in os.listdir(folder) if name.startswith(TEMPORARY_PREFIX))
    return ()


def _is_running(process: int) -> bool:
    """Whether a process of this space has the number; one that must not be signalled, or is hidden in /proc, has it too."""
    if sys.platform == "win32":  # where signal 0 is Ctrl-C
        import psutil

        return bool(psutil.pid_exists(process))
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def remove(path: Path) -> None:
    """Remove a file, a link (not its target) or a folder with all that is in it.

    Raises:
        OSError: If it cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        os.unlink(path)
