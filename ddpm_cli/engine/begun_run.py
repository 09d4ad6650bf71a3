"""The run that a launcher had begun when it started its processes again (torchrun --max-restarts, Slurm's requeue)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.launch import launch_key
from ddpm_cli.runs.checkpoints import has_checkpoint
from ddpm_cli.runs.directory import RunDirectory, list_runs, read_info

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class BegunRun:
    """A run of this launch.

    Attributes:
        run: Its folder.
        has_checkpoint: Whether it can be resumed, or has to begin once more.
    """

    run: RunDirectory
    has_checkpoint: bool


def begun_run(accelerator: Accelerator, runs: Path) -> BegunRun | None:
    """The newest run below `runs` that this launch made; the main process looks for it and tells the others.

    Returns:
        It, or None if the launch had not come so far.
    """
    from accelerate.utils import broadcast_object_list

    found = _find(runs) if accelerator.is_main_process else None
    told = [found]
    if accelerator.num_processes > 1:
        broadcast_object_list(told)
    return told[0]


def _find(runs: Path) -> BegunRun | None:
    for run in list_runs(runs):
        if read_info(run).get("launch") == launch_key():
            return BegunRun(run, has_checkpoint(run))
    return None
