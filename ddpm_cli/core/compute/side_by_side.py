"""Run passes through a network side by side on a CPU, each in a thread of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

Item = TypeVar("Item")
Result = TypeVar("Result")

LEAST_IMAGES = 16
"""In a pass: with fewer, what a pass takes whatever its size is more than a fifth of it."""
MOST_PASSES = 4
"""At once: Python itself, which lets one thread work at a time, is a tenth of a pass of the smallest networks."""


@contextmanager
def computing_threads(count: int) -> Iterator[None]:
    """Let each operation that this thread asks for be computed by `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class SideBySide:
    """Hold copies of a network that share its weights, and threads that pass through them at the same time.

    Where all threads compute one operation together, they wait for each other at its end, some hundred times in a pass, and beside
    another program each of these waits lasts until that program has had its turn. Threads that have a pass each wait once.

    The gradients of all passes are added up in the order of their numbers, so that the sum does not depend on which ends first.

    Args:
        networks: Of the same weights, in the same memory; see `sharing_weights`. The first one gets the gradients.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.networks = networks
        self._parameters = [[*network.parameters()] for network in networks]
        self.threads = max(1, torch.get_num_threads() // len(networks))
        """That compute an operation of one pass."""
        self._pool = ThreadPoolExecutor(len(networks), "pass", torch.set_num_threads, (self.threads,))

    def run(self, work: Callable[[nn.Module, int], Result]) -> list[Result]:
        """Call `work` with each network and its number, at the same time.

        Returns:
            What it returned, in order.
        Raises:
            Exception: The first that `work` raised, when all have ended.
        """
        try:
            results = self.each(lambda number: work(self.networks[number], number), range(len(self.networks)))
        except BaseException:
            for network in self.networks[1:]:
                network.zero_grad()
            raise
        self._add_gradients()
        return results

    def each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Call a function with each of some things in the threads, which take them in order.

        Returns:
            What it returned, in the order of the things.
        Raises:
            Exception: The first that it raised, when all have ended.
        """
        # The number that a thread sets is in part that of all: what this thread asks for later would be computed by as few.
        with computing_threads(self.threads):
            futures = [self._pool.submit(function, item) for item in items]
            wait(futures)
        return [future.result() for future in futures]

    def _add_gradients(self) -> None:
        first, *others = self._parameters
        for other in others:
            totals: list[Tensor] = []
            parts: list[Tensor] = []
            for total, part in zip(first, other, strict=True):
                if total.grad is None:
                    total.grad = part.grad
                elif part.grad is not None:
                    totals.append(total.grad)
                    parts.append(part.grad)
                part.grad = None
            if totals:
                torch._foreach_add_(totals, parts)


def side_by_side(network: nn.Module, images: int) -> SideBySide | None:
    """Prepare to compute batches in several passes at once.

    Args:
        network: On a CPU; `stateless` says whether it may be passed through by several threads.
        images: Of a batch.
    Returns:
        None where one pass is all that the processors, the batch or the network allow.
    """
    threads, most = torch.get_num_threads(), max(1, min(images // LEAST_IMAGES, MOST_PASSES))
    count = max(passes for passes in range(1, most + 1) if threads % passes == 0)  # so that no processor is without work
    if count == 1 or not getattr(network, "stateless", False):
        return None
    return SideBySide([network, *(sharing_weights(network) for _ in range(count - 1))])


def sharing_weights(network: nn.Module) -> nn.Module:
    """Make a copy of a network whose weights and buffers stay where they are: what is written there is seen in both."""
    twin = copy.deepcopy(network)
    for own, shared in zip([*twin.parameters(), *twin.buffers()], [*network.parameters(), *network.buffers()], strict=True):
        own.data = shared.data
    return twin
