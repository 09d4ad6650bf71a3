"""Have the processes of a launch work on one run: check that they can share it, and tell all of them which it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.core.compute.device import precision_of
from ddpm_cli.core.launch import launch_key, restarts
from ddpm_cli.errors import RequestError
from ddpm_cli.results.events import Listener, Notice
from ddpm_cli.runs.directory import create_run, list_runs, read_info
from ddpm_cli.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema.config import TrainConfig
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.results.start import StartReport


def check_processes(train: TrainConfig, accelerator: Accelerator, on_event: Listener) -> None:
    """Refuse batches that the processes cannot share.

    Raises:
        RequestError: Naming the numbers.
    """
    processes = accelerator.num_processes
    if train.batch_size < processes:
        raise RequestError(
            f"train.batch_size = {train.batch_size} leaves some of the {processes} processes without an image.",
            "Start fewer processes, or raise train.batch_size.",
        )
    if train.sharding == "none":
        return
    if processes == 1:
        on_event(Notice('train.sharding = "full" has no effect on one process, which holds all weights itself.', important=True))
    elif train.batch_size % processes:
        raise RequestError(
            f'train.sharding = "full" needs batches that {processes} processes share evenly, not of {train.batch_size} images.',
            f"Set train.batch_size to a multiple of {processes}.",
        )
    elif accelerator.mixed_precision == "fp16":
        raise RequestError(
            'train.sharding = "full" does not go with fp16, whose gradients are scaled by each process for itself.',
            "Set train.precision to bf16 or fp32.",
        )


def require_agreement(accelerator: Accelerator, dataset: Dataset, start: StartReport | None = None) -> None:
    """Refuse to train where machines hold other images or weights to start from, or other kinds of devices; all must ask.

    Args:
        accelerator: The processes.
        dataset: What they train on.
        start: What they start from; None for new weights, or those of the run itself.
    Raises:
        RequestError: On each of them, naming what two of them have.
    """
    if accelerator.num_processes == 1:
        return
    from accelerate.utils import gather_object

    device, precision = accelerator.device.type, precision_of(accelerator)
    own = {  # what is compared, and how it is told
        "training images": (dataset.sha256, f"{len(dataset.train):,} of {dataset.name} from {dataset.source}"),
        "kind of device": (device, device),
        "precision": (precision, precision),
        "weights to start from": ("", "random ones") if start is None else (start.sha256, start.origin),
    }
    everywhere: list[dict[str, tuple[str, str]]] = gather_object([own])
    for what, (wanted, told) in everywhere[0].items():
        for rank, facts in enumerate(everywhere):
            found, told_there = facts[what]
            if found != wanted:
                raise RequestError(
                    f"The processes do not have the same {what}: process 0 has {told}, process {rank} has {told_there}.",
                    "Give all machines the same data (a data.root or DDPM_CACHE that they share), --device, train.precision "
                    "and checkpoint of a teacher.",
                )


def begun_run(train: TrainConfig, runs: Path) -> RunDirectory | None:
    """Find the newest run below `runs` that this launch made before its launcher (torchrun, Slurm) started it again.

    The main process looks for it and tells the others.

    Returns:
        It, or None if the launch had not come so far, or is at its first attempt.
    """
    import torch
    from accelerate.utils import broadcast_object_list

    from ddpm_cli.core.compute.team import make_accelerator

    accelerator = make_accelerator(train.device, train.precision)
    # torchrun counts on each machine what failed there.
    counts = accelerator.gather(torch.tensor([restarts()], device=accelerator.device))
    if not int(counts.max()):
        return None
    told = [_begun_here(runs) if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        broadcast_object_list(told)
    return told[0]


def _begun_here(runs: Path) -> RunDirectory | None:
    return next((run for run in list_runs(runs) if read_info(run).get("launch") == launch_key()), None)


def new_run(accelerator: Accelerator, runs: Path, name: str | None, prefix: str) -> RunDirectory:
    """Have the main process make the folder of a run, and tell the others its name, see `create_run`."""
    from accelerate.utils import broadcast_object_list

    paths = [str(create_run(runs, name, prefix).path) if accelerator.is_main_process else ""]
    if accelerator.num_processes > 1:
        broadcast_object_list(paths)
    return RunDirectory(Path(paths[0]))
