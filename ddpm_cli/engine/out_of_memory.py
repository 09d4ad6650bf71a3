"""Memory that did not suffice: how to tell, how to get it back, and how much less would have done."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

OTHER_WORDS = ("not enough memory", "std::bad_alloc", "could not create a memory object")
"""What the CPU allocator says elsewhere than on Linux, and libraries below torch, which accelerate does not know."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that some device, or the machine, has no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and (should_reduce_batch_size(error) or any(word in str(error) for word in OTHER_WORDS))


def free_memory(error: BaseException) -> None:
    """Free what the computation that failed still holds: the frames in its traceback keep all their tensors.

    Args:
        error: What it failed with; it keeps its traceback, for --debug.
    """
    chain: BaseException | None = error
    while chain is not None:
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__
    gc.collect()
    clear_device_cache()


def fits(compute: Callable[[int], None], images: int) -> bool:
    """Whether a computation gets through with so many images; if not, its memory is free again."""
    try:
        compute(images)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        free_memory(error)
        return False
    return True


def largest_fitting(compute: Callable[[int], None], images: int, clear: Callable[[], None]) -> int | None:
    """The largest number of images that a computation has memory for, out of `images` and its halves.

    Args:
        compute: Takes the number of images.
        images: To begin with.
        clear: Frees what a computation leaves; called after each.
    Returns:
        The number, or None if not even one image fits.
    """
    while images >= 1:
        fitted = fits(compute, images)
        clear()
        if fitted:
            return images
        images //= 2
    return None
