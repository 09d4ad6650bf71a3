"""Tell how much memory this machine has, and how much of it a process may still take."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class MachineMemory:
    """Hold bytes of memory.

    Attributes:
        total: That the processes of this machine, or of the container that they are in, can have at all, swap included.
        available: That are free, or can be freed at once.
    """

    total: int
    available: int


def machine_memory() -> MachineMemory:
    """Ask the system, or the cgroups that this process is in where they allow less."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    totals, free = [memory.total + swap.total], [memory.available + swap.free]
    for folder in _cgroups():
        limit, used = _number(folder / "memory.max"), _number(folder / "memory.current")
        if limit is not None and used is not None:
            totals.append(limit)
            free.append(limit - used + _reclaimable(folder))
    return MachineMemory(min(totals), max(min(free), 0))


def local_processes() -> int:
    """Count the processes of this run on this machine, as `torchrun` does."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _cgroups() -> list[Path]:
    """The folders of this process's cgroup (version 2) and of those around it; none elsewhere than on Linux."""
    try:
        lines = OWN_CGROUP.read_text().splitlines()
    except OSError:
        return []
    own = next((PurePosixPath(line.removeprefix("0::")) for line in lines if line.startswith("0::")), None)
    return [] if own is None else [CGROUPS / str(path).lstrip("/") for path in (own, *own.parents)]


def _number(path: Path) -> int | None:
    """The number in a file; None if there is none, as where it says "max"."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _reclaimable(folder: Path) -> int:
    """Bytes of files that a cgroup holds and can drop."""
    try:
        facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int(facts.get("inactive_file", 0))
    except (OSError, ValueError):
        return 0
