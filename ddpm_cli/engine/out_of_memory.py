"""Memory that did not suffice: how to tell, how to get it back, and how much less would have done."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from ddpm_cli.engine.allocator import return_freed_memory
from ddpm_cli.errors import OutOfMemoryError

OTHER_WORDS = ("not enough memory", "std::bad_alloc", "could not create a primitive", "could not create a memory object")
"""What accelerate does not know: the CPU allocator elsewhere than on Linux, and oneDNN, seen where its own memory is refused."""


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
    return_freed_memory()


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


@contextmanager
def sampling_memory(denoise: Callable[[int], None], images: int, device: torch.device) -> Iterator[None]:
    """Denoising of a batch, in which running out of memory becomes one error that says what would have fitted.

    Args:
        denoise: Does one step of it with the number of images that it is given.
        images: In the batch.
        device: Where it runs.
    Raises:
        OutOfMemoryError: After smaller batches were tried in this very process.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        free_memory(error)
        fitted = largest_fitting(denoise, images // 2, lambda: None)
        message = f"Out of memory while denoising {images:,} images at a time on {device}."
        if fitted is None:
            raise OutOfMemoryError(f"{message} Tried at once, not even one fitted.", "Take another device: --device cpu") from error
        raise OutOfMemoryError(
            f"{message} Tried at once, {fitted:,} fitted.",
            f"They are the same images in smaller batches: --batch-size {fitted} for sample and evaluate, "
            f"--set sample.batch_size={fitted} for train and resume.",
        ) from error


@contextmanager
def measuring_memory(images: int, device: torch.device) -> Iterator[None]:
    """The rest of an evaluation, in which running out of memory becomes one error.

    Args:
        images: Looked at at a time.
        device: Where it runs.
    Raises:
        OutOfMemoryError: With the batch size to try.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        free_memory(error)
        message = f"Out of memory while measuring {images:,} images at a time on {device}."
        raise OutOfMemoryError(message, f"Try smaller batches: --batch-size {max(images // 2, 1)}") from error
