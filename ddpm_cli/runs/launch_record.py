"""Record how a run was launched, as far as its bits depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ddpm_cli.core.compute.device import precision_of
from ddpm_cli.core.io.files import printable

if TYPE_CHECKING:
    from accelerate import Accelerator

_NAMES = {
    **{"processes": "processes", "threads": "CPU threads in each process", "device": "device", "precision": "precision"},
    **{"kernels": "kernels", "torch": "torch version"},
}


def launch(accelerator: Accelerator, *, compiled: bool) -> dict[str, int | str]:
    """Tell what a start came to, also where the config leaves it open.

    Args:
        accelerator: Device, precision and processes.
        compiled: Whether the network's passes are compiled.
    Returns:
        Processes, CPU threads in each, kind of device, precision, compiled or eager kernels, and the version of torch.
    """
    import torch

    kind = accelerator.device.type
    return {
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "device": f"cuda ({torch.cuda.get_device_name(accelerator.device)})" if kind == "cuda" else kind,
        "precision": precision_of(accelerator),
        "kernels": "compiled" if compiled else "eager",
        "torch": torch.__version__,
    }


def launch_notice(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str | None:
    """Say at a resume what differs from the checkpoint's launch; None if nothing does or it is not known.

    Sums of floating-point numbers depend on the order of their terms, and each of these decides about that order.

    Args:
        before: What `launch` gave when the checkpoint was written; None for a checkpoint that does not tell.
        now: What it gives here.
    """
    if before is None:
        return None
    known = [key for key in _NAMES if key in before]  # earlier versions tell less
    changes = [f"{_NAMES[key]} {now[key]} instead of {printable(str(before[key]))}" for key in known if before[key] != now[key]]
    if not changes:
        return None
    dropout = " and dropout leaves out others" if before.get("processes") != now["processes"] else ""
    return (
        f"Launched otherwise than before: {', '.join(changes)}. Images, noise and steps come in the same order, "
        f"but sums are rounded otherwise{dropout}, so that bits may differ from a run that was never stopped."
    )
