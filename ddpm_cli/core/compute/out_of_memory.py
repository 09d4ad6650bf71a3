"""Recognise that memory did not suffice, get it back, and find how much less would have done."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ddpm_cli.core.compute.allocator import return_freed_memory
from ddpm_cli.errors import OutOfMemoryError

OTHER_WORDS = ("not enough memory", "std::bad_alloc", "could not create a primitive", "could not create a memory object")
"""What accelerate does not know: the CPU allocator elsewhere than on Linux, and oneDNN, seen where its own memory is refused."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that some device, or the machine, has no memory left."""
    from accelerate.utils.memory import should_reduce_batch_size  # here, as sampling must not wait for its import

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and (should_reduce_batch_size(error) or any(word in str(error) for word in OTHER_WORDS))


def free_memory(error: BaseException) -> None:
    """Free what the computation that failed still holds: the frames in its traceback keep all their tensors.

    Args:
        error: What it failed with; it keeps its traceback, for --debug.
    """
    from accelerate.utils.memory import clear_device_cache

    chain: BaseException | None = error
    while chain is not None:
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__
    gc.collect()
    clear_device_cache()
    return_freed_memory()


@contextmanager
def out_of_memory(explain: Callable[[], OutOfMemoryError]) -> Iterator[None]:
    """Make running out of memory one error of the work inside.

    Args:
        explain: Makes the error, once the memory is free again; it may try what would have fitted.
    Raises:
        OutOfMemoryError: That error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        free_memory(error)
        raise explain() from error


def fits(compute: Callable[[int], None], images: int) -> bool:
    """Try whether a computation gets through with so many images; if not, its memory is free again."""
    try:
        compute(images)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        free_memory(error)
        return False
    return True


def largest_fitting(compute: Callable[[int], None], images: int, clear: Callable[[], None]) -> int | None:
    """Find the largest number of images that a computation has memory for, out of `images` and its halves.

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


def sampling_error(denoise: Callable[[int], None], images: int, device: torch.device) -> OutOfMemoryError:
    """Explain that denoising ran out of memory, after smaller batches were tried in this very process.

    Args:
        denoise: Does one step of it with the number of images that it is given.
        images: In the batch.
        device: Where it runs.
    """
    message = f"Out of memory while denoising {images:,} images at a time on {device}."
    fitted = largest_fitting(denoise, images // 2, lambda: None)
    if fitted is None:
        return OutOfMemoryError(f"{message} Tried at once, not even one fitted.", "Take another device, such as cpu.")
    return OutOfMemoryError(
        f"{message} Tried at once, {fitted:,} fitted.",
        f"Set sample.batch_size={fitted}: in smaller batches they are the same images.",
        fitted,
    )


def measuring_error(images: int, device: torch.device) -> OutOfMemoryError:
    """Explain that the rest of an evaluation ran out of memory, looking at `images` at a time."""
    message = f"Out of memory while measuring {images:,} images at a time on {device}."
    return OutOfMemoryError(message, f"Try smaller batches: --batch-size {max(images // 2, 1)}")
