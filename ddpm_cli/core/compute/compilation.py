"""Compile networks by torch.compile, and leave them as they are where that cannot be."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from ddpm_cli.core.compute.out_of_memory import is_out_of_memory
from ddpm_cli.results.events import Compiling, Listener, Notice

if TYPE_CHECKING:
    from ddpm_cli.diffusion.denoise import Network

BACKEND = "inductor"
LONGEST_REASON = 200
"""Characters of a compiler's complaint that are told."""


def wants_compiling(choice: bool | Literal["auto"], device: torch.device, *, deterministic: bool = False) -> bool:
    """Say what `auto` means on a device: yes on CUDA, where a minute of compiling is soon made up for, and no elsewhere.

    And no where a run is to give the same bits each time: a compiler chooses among its kernels by timing them.
    """
    return choice if isinstance(choice, bool) else device.type == "cuda" and not deterministic


def compiled(network: nn.Module, rehearse: Callable[[Network], object], on_event: Listener, mode: str | None = None) -> Network:
    """Compile a network for just the inputs of a rehearsal; return the network itself, with a notice that says why, if that fails.

    The module stays as it is, and so do the names of its weights.

    Args:
        network: The network, wrapped for several processes or not.
        rehearse: Calls what it is given with every shape that is to come; without a rehearsal the compiler would only begin, and
            fail, in the middle of the work.
        on_event: Told when compiling begins and ends.
        mode: Of torch.compile.
    """
    on_event(Compiling())
    began = time.monotonic()
    try:
        fast: Network = torch.compile(network, backend=BACKEND, mode=mode, dynamic=False)
        rehearse(fast)
    # Compilers, and what they call, raise errors of all kinds; each leaves a network that works as it is.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        torch.compiler.reset()
        on_event(Notice(f"The network could not be compiled and runs as it is, more slowly: {_reason(error)}", important=True))
        return network
    on_event(Compiling(time.monotonic() - began))
    return fast


def _reason(error: Exception) -> str:
    """The first line of an error of many that says more than which compiler raised it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = next((line for line in lines if not line.endswith("raised:")), type(error).__name__)
    return text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + "..."
