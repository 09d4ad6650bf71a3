"""Trace how much memory a computation holds at its height, for a batch of any size, from two runs of it with a few images."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FEW = 2  # images; one alone takes other ways through some operations


class MemoryTrace(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch annotates little of it
    """Note after each operation the bytes of all tensors that were made since it was entered and are still alive.

    What an operation takes for itself while it runs is not seen.

    Args:
        device: Whose tensors count.

    Attributes:
        bytes: One number for each operation.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the same
        self.bytes: list[int] = []
        self._device = device
        self._alive: dict[int, int] = {}
        self._total = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.device.type == self._device.type:
                self._watch(leaf.untyped_storage())
        self.bytes.append(self._total)
        return result

    def _watch(self, storage: UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._alive:
            self._alive[key] = storage.nbytes()
            self._total += storage.nbytes()
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._total -= self._alive.pop(key)


@dataclass(frozen=True)
class PeakMemory:
    """Hold the height of a computation's memory as a function of its images: a maximum of straight lines, one for each operation.

    Attributes:
        lines: Bytes that are alive after each operation without any image, and for each image.
    """

    lines: frozenset[tuple[int, int]]

    def at(self, images: int) -> int:
        """Count bytes for so many images at a time."""
        return max((fixed + images * per_image for fixed, per_image in self.lines), default=0)


def peak_memory(compute: Callable[[int], None], device: torch.device) -> PeakMemory:
    """Trace how a computation's memory grows with its images; it is done twice, with FEW images and one more.

    Args:
        compute: Takes the number of images; the operations are the same for any, and their tensors grow with it in a straight line.
        device: Whose memory counts.
    """
    few, more = (_trace(compute, images, device) for images in (FEW, FEW + 1))
    lines = frozenset((first - FEW * (second - first), second - first) for first, second in zip(few, more, strict=False))
    return PeakMemory(lines)


def _trace(compute: Callable[[int], None], images: int, device: torch.device) -> list[int]:
    trace = MemoryTrace(device)
    with trace:
        compute(images)
    return trace.bytes
