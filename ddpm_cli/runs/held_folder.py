"""Notice that the folder of a run is no longer at its path, before something is written into what lies there now."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ddpm_cli.core.io.files import output_errors
from ddpm_cli.errors import RunError, RunMovedError
from ddpm_cli.runs.directory import read_info
from ddpm_cli.runs.run_directory import RunDirectory

_DELETED = " (deleted)"


class HeldFolder:
    """Hold the folder of a run as it was when the run was opened for writing.

    It is held open, so that its number cannot be given to another folder, and so that Linux tells where it went.

    Args:
        run: The run, whose path leads to it now.
    Raises:
        OSError: If it cannot be opened.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._created = _created(run)
        self._descriptor = os.open(run.path, os.O_RDONLY) if os.name == "posix" else None
        self._state = os.stat(run.path if self._descriptor is None else self._descriptor)

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)

    @property
    def is_in_place(self) -> bool:
        """Tell whether the run's path still leads to it; yes, where the disk gives no answer, as the next write will tell."""
        try:
            return os.path.samestat(os.stat(self._run.path), self._state)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True

    def check(self) -> None:
        """Refuse to go on if the path leads elsewhere.

        Raises:
            RunMovedError: See `moved`.
        """
        if not self.is_in_place:
            raise self.moved(None)

    def whereabouts(self) -> Path | None:
        """Tell where it is now; None if it was deleted, or that cannot be found out."""
        link = self._link()
        return Path(link) if link is not None and self._is_at(Path(link)) else None

    def moved(self, saved_step: int | None) -> RunMovedError:
        """Say what became of the folder, and what lies at its old path.

        Args:
            saved_step: The step of the checkpoint that was saved where it went, if one was.
        """
        path, found = self._run.path, self.whereabouts()
        then = f"Training stopped, and saved step {saved_step:,} there." if saved_step is not None else "Training stopped."
        message = f"While it trained, the folder of the run {path}{self._created} {self._fate(found)}. {_seen_at(path)} {then}"
        return RunMovedError(message, self._remedy(found))

    def _is_at(self, path: Path) -> bool:
        with contextlib.suppress(OSError):
            return os.path.samestat(os.stat(path), self._state)
        return False

    def _link(self) -> str | None:
        """What Linux says of the open folder."""
        with contextlib.suppress(OSError):
            return os.readlink(f"/proc/self/fd/{self._descriptor}")
        return None

    def _fate(self, found: Path | None) -> str:
        if found is not None:
            return f"was moved to {found}"
        if (self._link() or "").endswith(_DELETED):
            return "was deleted"
        return "was moved or deleted"

    def _remedy(self, found: Path | None) -> str:
        if found is not None:
            return f"Go on with: ddpm resume {RunDirectory(found).shell_word}"
        return "Find the folder, or a copy of it, and go on with `ddpm resume` and its path; else start the run again."


@contextlib.contextmanager
def held(run: RunDirectory) -> Iterator[HeldFolder]:
    """Hold the folder of a run.

    Raises:
        OutputError: If it cannot be opened.
    """
    with output_errors(run.path):
        folder = HeldFolder(run)
    try:
        yield folder
    finally:
        folder.close()


def _created(run: RunDirectory) -> str:
    """When a run was created, by which a reader tells it from another; empty if it does not say."""
    try:
        moment = read_info(run)["created"]
        return f" (created {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(moment))})"
    except (RunError, KeyError, TypeError, ValueError, OverflowError, OSError):
        return ""


def _seen_at(path: Path) -> str:
    """What lies at the path now."""
    there = RunDirectory(path)
    if path.is_symlink():
        return f"A link to {os.readlink(path)} lies at {path} now; nothing was written to it."
    if not path.exists():
        return f"Nothing lies at {path} now."
    if there.info_path.is_file():
        return f"Another run{_created(there)} lies at {path} now; nothing was written to it."
    return f"Something else, no run, lies at {path} now; nothing was written to it."
