"""Find the run that a launcher had begun when it started its processes again (torchrun --max-restarts, Slurm's requeue)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ddpm_cli.core.launch import launch_key, restarts
from ddpm_cli.runs.directory import list_runs, read_info
from ddpm_cli.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from accelerate import Accelerator


def begun_run(accelerator: Accelerator, runs: Path) -> RunDirectory | None:
    """Find the newest run below `runs` that this launch made; the main process looks for it and tells the others.

    Returns:
        It, or None if the launch had not come so far, or is at its first attempt.
    """
    from accelerate.utils import broadcast_object_list

    # torchrun counts on each machine what failed there.
    counts = accelerator.gather(torch.tensor([restarts()], device=accelerator.device))
    if not int(counts.max()):
        return None
    told = [_find(runs) if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        broadcast_object_list(told)
    return told[0]


def _find(runs: Path) -> RunDirectory | None:
    return next((run for run in list_runs(runs) if read_info(run).get("launch") == launch_key()), None)
