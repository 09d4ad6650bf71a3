"""Draw the noise of the next step of sampling in threads, while a device computes the one before."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Self

import torch
from torch import Tensor

from ddpm_cli.core.compute.machine_memory import local_processes
from ddpm_cli.core.threads import processors
from ddpm_cli.diffusion.sampling import ImageNoise, Noise

MOST_THREADS = 8
"""The interpreter, which they share, takes 2.4 of the 11 microseconds that 3x32x32 values take, measured on a CPU."""
FEWEST_IMAGES = 16
"""For a thread."""


def noise_of_images(seeds: Sequence[int], shape: tuple[int, int, int], device: torch.device) -> AbstractContextManager[Noise]:
    """Draw the noise of a batch as `ImageNoise` does, ahead where the device is not the processor that draws."""
    noise = ImageNoise(seeds, shape, device)
    return NoiseAhead(noise) if computes_beside(device) else nullcontext(noise)


def computes_beside(device: torch.device) -> bool:
    """Tell whether a device leaves the processor free; a CPU's threads all work on the network, and one more only takes turns."""
    return device.type != "cpu"


class NoiseAhead:
    """Return the noise of an `ImageNoise`, bit for bit, but draw the next one while the caller goes on; a context manager.

    Each image has a generator of its own, so threads draw parts of a batch at the same time. Only from the second call on is
    something drawn ahead: samplers that add no noise ask once, for x_T. To CUDA the noise goes from pinned memory, so that the
    host does not wait for the device.

    Args:
        noise: What to draw, float32; nobody else may draw from it.
    """

    def __init__(self, noise: ImageNoise) -> None:
        self._noise = noise
        images = noise.shape[0]
        threads = max(min(MOST_THREADS, processors() // local_processes(), images // FEWEST_IMAGES), 1)
        each = -(-images // threads)
        self._parts = [slice(start, start + each) for start in range(0, images, each)]
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="noise")
        self._next: tuple[Tensor, list[Future[None]]] | None = None
        self._calls = 0

    def __call__(self) -> Tensor:
        """Return the next noise, [B, C, H, W], on the device.

        Raises:
            Exception: What drawing it raised.
        """
        drawn, parts = self._next or self._begin()
        self._next = None
        for part in parts:
            part.result()
        self._calls += 1
        if self._calls > 1:
            self._next = self._begin()
        # MPS would read the memory after it was given back (pytorch/pytorch#189690).
        return drawn.to(self._noise.device, non_blocking=self._noise.device.type != "mps")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads; what they drew ahead is freed."""
        self._pool.shutdown(cancel_futures=True)
        self._next = None

    def _begin(self) -> tuple[Tensor, list[Future[None]]]:
        """Have the next noise drawn into memory of its own: the one before may still be on its way to the device."""
        drawn = torch.empty(self._noise.shape, dtype=torch.float32, pin_memory=self._noise.device.type == "cuda")
        return drawn, [self._pool.submit(self._noise.fill, drawn, part) for part in self._parts]
