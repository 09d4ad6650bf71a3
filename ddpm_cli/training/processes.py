"""Check that the processes of a launch can share its work, and came to the same where each looked for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm_cli.core.compute.device import precision_of
from ddpm_cli.errors import RequestError
from ddpm_cli.results.events import Listener, Notice

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema.config import TrainConfig
    from ddpm_cli.data.images import Dataset


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


def require_agreement(accelerator: Accelerator, dataset: Dataset) -> None:
    """Refuse to train where machines hold other images, or other kinds of devices; all processes must ask.

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
    }
    everywhere: list[dict[str, tuple[str, str]]] = gather_object([own])
    for what, (wanted, told) in everywhere[0].items():
        for rank, facts in enumerate(everywhere):
            found, told_there = facts[what]
            if found != wanted:
                raise RequestError(
                    f"The processes do not have the same {what}: process 0 has {told}, process {rank} has {told_there}.",
                    "Give all machines the same data (a data.root or DDPM_CACHE that they share), --device and train.precision.",
                )
