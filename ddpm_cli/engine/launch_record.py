"""How a run was launched, as far as its bits depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator

_NAMES = {"processes": "processes", "threads": "CPU threads in each process", "device": "device", "torch": "torch version"}


def launch(accelerator: Accelerator) -> dict[str, int | str]:
    """For a checkpoint: processes, CPU threads in each, kind of device and version of torch."""
    import torch

    kind = accelerator.device.type
    return {
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "device": f"cuda ({torch.cuda.get_device_name(accelerator.device)})" if kind == "cuda" else kind,
        "torch": torch.__version__,
    }


def launch_notice(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str | None:
    """What to say at a resume of what differs from the checkpoint's launch; None if nothing does or it is not known.

    Sums of floating-point numbers depend on the order of their terms, and each of these decides about that order.

    Args:
        before: What `launch` gave when the checkpoint was written; None for a checkpoint that does not tell.
        now: What it gives here.
    """
    if before is None:
        return None
    changes = [f"{name} {now[key]} instead of {before[key]}" for key, name in _NAMES.items() if before[key] != now[key]]
    if not changes:
        return None
    dropout = " and dropout leaves out others" if before["processes"] != now["processes"] else ""
    return (
        f"Launched otherwise than before: {', '.join(changes)}. Images, noise and steps come in the same order, "
        f"but sums are rounded otherwise{dropout}, so that bits may differ from a run that was never stopped."
    )
