"""Join the processes that share one piece of work."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import psutil
import torch
from torch import Tensor

from ddpm_cli.core.compute.allocator import keep_freed_memory
from ddpm_cli.core.compute.device import resolve_device, resolve_precision
from ddpm_cli.core.launch import on_one_machine, processes, restarts
from ddpm_cli.errors import PeerLostError

if TYPE_CHECKING:
    from accelerate import Accelerator

LONGEST_WAIT = timedelta(hours=2)
"""Before a process that waits gives up. The main one may fit a classifier, look at all training images or write a large checkpoint
while the others wait; a process that has died is noticed at once, whatever this is."""
SECONDS_TO_DIE = 3.0


def _alone() -> None:
    """One process waits for nobody."""


@dataclass(frozen=True)
class Team:
    """Join a process with those that work beside it.

    Attributes:
        rank: Number of this process; 0 is the main one, which alone reduces, stores and prints.
        size: Processes.
        wait: Returns when all of them have called it.
        device: Where tensors must be to be sent.
    """

    rank: int = 0
    size: int = 1
    wait: Callable[[], None] = _alone
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def of(cls, accelerator: Accelerator) -> Team:
        """Join the processes of `torchrun` or `accelerate launch`."""
        return cls(accelerator.process_index, accelerator.num_processes, accelerator.wait_for_everyone, accelerator.device)

    @property
    def is_main(self) -> bool:
        """Tell whether this is the main process."""
        return self.rank == 0

    def share(self, count: int, rank: int | None = None) -> slice:
        """List which of `count` things a process takes, this one if none is named: consecutive ones, in the order of the ranks."""
        rank = self.rank if rank is None else rank
        return slice(rank * count // self.size, (rank + 1) * count // self.size)

    def collect(self, own: Tensor, count: int) -> Iterator[Tensor]:
        """Bring what all processes have to the main one.

        Args:
            own: One row for each thing of this process's share.
            count: Things over all processes.
        Yields:
            On the main process the rows of all in the order of the ranks, on the CPU; nothing on the others.
        """
        if self.is_main:
            yield own
            for rank in range(1, self.size):
                share = self.share(count, rank)
                rows = torch.empty(share.stop - share.start, *own.shape[1:], dtype=own.dtype, device=self.device)
                torch.distributed.recv(_sendable(rows), src=rank)
                yield rows.cpu()
        else:
            torch.distributed.send(_sendable(own.contiguous().to(self.device)), dst=0)

    def largest(self, *numbers: float) -> list[float]:
        """Find the largest of each number over all processes, which must all ask; hosts compare, while their devices go on."""
        if self.size == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64)
        torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX, group=host_group())
        found: list[float] = values.tolist()
        return found

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Turn a connection that a dead process closed into an error that names the process.

        Raises:
            PeerLostError: On the first living process of each machine; the others end with status 1 and say nothing.
        """
        peers = self._peers() if self.size > 1 else {}
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not _is_lost_connection(error):
                raise
            _outlive_the_launcher()
            lost = _await_dead(peers)
            if self.rank != min(rank for rank in peers if rank not in lost):
                raise SystemExit(1) from error
            raise _peer_lost(lost, self.size) from error

    def _peers(self) -> dict[int, int]:
        """The ids of this machine's processes by rank."""
        machine = zlib.crc32(socket.gethostname().encode())
        own = torch.tensor([machine, os.getpid()], device=self.device)
        gathered = [torch.empty_like(own) for _ in range(self.size)]
        torch.distributed.all_gather(gathered, own)
        ids = [tensor.tolist() for tensor in gathered]
        return {rank: process for rank, (where, process) in enumerate(ids) if where == machine}


def _sendable(tensor: Tensor) -> Tensor:
    """The same memory as a type that every backend sends, which 16 bits without a sign are not."""
    return tensor.view(torch.uint8) if tensor.dtype == torch.uint16 else tensor


def make_accelerator(device_name: str, precision: str) -> Accelerator:
    """Make Accelerate's handle on device, precision and processes; under `torchrun` each process takes its own device.

    Raises:
        DeviceError: If this machine lacks the device or the precision.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import InitProcessGroupKwargs

    keep_freed_memory()
    device = resolve_device(device_name)
    if processes() == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    elif restarts() and on_one_machine() and not torch.distributed.is_initialized():
        begin_group_again(device)
    mixed = {"fp32": "no"}.get(resolved := resolve_precision(precision, device), resolved)
    group = InitProcessGroupKwargs(timeout=LONGEST_WAIT)
    return Accelerator(mixed_precision=mixed, cpu=device.type == "cpu", kwargs_handlers=[group])


def sampling_team(device_name: str) -> Team:
    """Join the processes that draw samples; one alone has no need of Accelerate, which takes long to import.

    Raises:
        DeviceError: If this machine lacks the device.
    """
    if processes() == 1:
        return Team(device=resolve_device(device_name))
    return Team.of(make_accelerator(device_name, "fp32"))


@cache
def host_group() -> Any:
    """Make a group of all processes that talks through the hosts; made once, by all of them together."""
    return torch.distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)


def begin_group_again(device: torch.device) -> None:
    """Bring together the processes of a later attempt of torchrun.

    Its store outlives the attempts (PyTorch issue 135712): without a prefix of its own, an attempt may take the addresses that
    the dead wrote down for those of the living. Only on one machine, because each counts the attempts for itself.
    """
    from torch.distributed import init_process_group
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(rendezvous("env://"))
    backend = "nccl" if device.type == "cuda" else "gloo"
    store = PrefixStore(f"attempt-{restarts()}", store)
    init_process_group(backend, store=store, rank=rank, world_size=size, timeout=LONGEST_WAIT)


def disband() -> None:
    """End the connections between the processes: gloo's threads, left to the end of the interpreter, now and then abort it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        host_group.cache_clear()


def _is_lost_connection(error: RuntimeError) -> bool:
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


def _outlive_the_launcher() -> None:
    """Ignore the signal by which a launcher ends the others, for the seconds that it takes to say why they end."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _await_dead(peers: dict[int, int]) -> list[int]:
    """Which of this machine's processes have ended; the launcher takes a moment to bury one, which until then seems alive."""
    deadline = time.monotonic() + SECONDS_TO_DIE
    while not (dead := [rank for rank, process in peers.items() if not psutil.pid_exists(process)]):
        if time.monotonic() > deadline:
            return []
        time.sleep(0.1)
    return dead


def _peer_lost(lost: list[int], size: int) -> PeerLostError:
    if not lost:
        return PeerLostError(
            "A process on another machine has ended, or one has kept the others waiting too long.",
            "Look at the messages of the others.",
        )
    names = " and ".join(map(str, lost))
    return PeerLostError(
        f"Process {names} of {size} on {socket.gethostname()} has ended, and without it the others cannot go on.",
        "Its own message says why, if it left one: a process that was killed (signal 9), often for lack of memory, leaves none.",
    )
