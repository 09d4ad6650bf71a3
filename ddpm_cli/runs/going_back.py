"""Go back to an earlier checkpoint without losing the later ones."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.core.io.files import discard_folder, output_errors, sync_path
from ddpm_cli.errors import CheckpointError
from ddpm_cli.runs.checkpoints import list_checkpoints, load_checkpoint, step_of

if TYPE_CHECKING:
    from ddpm_cli.runs.run_directory import RunDirectory

DIVERGED = "diverged-"
"""What the names of checkpoints that were set aside begin with; no command takes one of itself, but each can be named."""


def newest_until(run: RunDirectory, step: int) -> int | None:
    """Find the step of the newest whole checkpoint that is not later than `step`, None if there is none.

    Raises:
        OutputError: If the folder cannot be read.
    """
    with output_errors(run.checkpoints_folder):
        paths = list_checkpoints(run)
    for path in reversed([path for path in paths if step_of(path) <= step]):
        with contextlib.suppress(CheckpointError):
            return load_checkpoint(path).step
    return None


def set_aside_after(run: RunDirectory, step: int) -> list[Path]:
    """Rename all checkpoints later than `step`, the newest first, so that what is left is in order whenever this ends.

    Where there are any, those that were set aside before are removed, so that they do not fill the disk.

    Args:
        run: The run, locked by this process.
        step: The last one that stays.
    Returns:
        Their new places, newest first.
    Raises:
        OutputError: If one cannot be renamed or removed.
    """
    moved: list[Path] = []
    with output_errors(run.checkpoints_folder):
        while later := [path for path in list_checkpoints(run) if step_of(path) > step]:
            if not moved:
                _remove_earlier(run)
            moved.append(later[-1].rename(later[-1].with_name(DIVERGED + later[-1].name)))
        sync_path(run.checkpoints_folder)
    return moved


def _remove_earlier(run: RunDirectory) -> None:
    for path in list(run.checkpoints_folder.glob(f"{DIVERGED}*")):
        discard_folder(path)
