"""Whether the processes of a launch came to the same, where each looked for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm_cli.engine.device import precision_of
from ddpm_cli.errors import RequestError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.data.images import Dataset


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
