"""Record what a step of training came to, in numbers that the host reads without making the device wait.

A number that is read at once has the host wait until the device has done all its work, and the device then wait for the host to
hand it more. Here a copy goes to the host on its own while further steps are under way, and is read when it has long arrived.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class LateNumbers:
    """Bring numbers from a device to the host.

    Args:
        values: Scalars of one device.
    """

    def __init__(self, *values: Tensor) -> None:
        numbers = torch.stack([value.float() for value in values])
        self._copy = numbers.to("cpu", non_blocking=True)  # into pinned memory, if it comes from CUDA
        self._arrived = torch.cuda.Event() if numbers.is_cuda else None  # type: ignore[no-untyped-call]  # torch gives it no types
        if self._arrived:
            self._arrived.record()

    def read(self) -> list[float]:
        """Read the numbers, once they have arrived."""
        if self._arrived:
            self._arrived.synchronize()
        found: list[float] = self._copy.tolist()
        return found


@dataclass(frozen=True)
class Outcome:
    """Hold what one step came to.

    Attributes:
        step: Its number, from 0.
        t: The steps of noise that were drawn, or those nearest to what was, int64, [B].
        losses: Of each image, weighted, [B].
        numbers: The mean loss, the norm of the gradient before it was clipped, and 1 if the step was taken or else 0.
    """

    step: int
    t: Tensor
    losses: Tensor
    numbers: LateNumbers
