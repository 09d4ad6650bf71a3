"""Write images into one .npz file, as guided-diffusion's evaluator reads samples and references: `arr_0`, and labels as `arr_1`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.array_archives import image_archive
from ddpm_cli.core.io.files import require_writable_parent
from ddpm_cli.errors import OutputError

COLOURS = 3
LABEL_BYTES = 8
SLACK = 4096
"""Bytes that headers and the archive's list of members take, and more."""


def require_npz(path: Path, count: int, image_shape: tuple[int, int, int]) -> None:
    """Refuse a file before the images are drawn that would go into it.

    Args:
        path: The file.
        count: Images.
        image_shape: Channels, height and width of each.
    Raises:
        OutputError: If it is not called .npz, cannot be written, is too large for the disk, or the images are neither grey nor RGB.
    """
    channels, height, width = image_shape
    if path.suffix.lower() != ".npz":
        raise OutputError(f"Cannot write {path}: arrays go into a file called .npz.", f"Name {path.with_suffix('.npz')}.")
    if channels not in (1, COLOURS):
        raise OutputError(
            f"Cannot write {path}: its arr_0 has three colours, and these images have {channels} channels.",
            "Write pictures that keep them all: --each DIR.",
        )
    require_writable_parent(path)
    needed = count * (height * width * COLOURS + LABEL_BYTES) + SLACK
    free = shutil.disk_usage(path.absolute().parent).free
    if needed > free:
        raise OutputError(
            f"Cannot write {path}: {count:,} images need {needed:,} bytes of disk, and {free:,} are free.",
            "Draw fewer, or choose another folder.",
        )


@contextmanager
def npz_of(
    path: Path, count: int, image_shape: tuple[int, int, int], labels: Sequence[int] | None
) -> Iterator[Callable[[NDArray[np.uint8]], None]]:
    """Give a function that takes the next images, uint8 [B, C, H, W]; the file is there, whole, after the block, or is not.

    It holds `arr_0`, uint8 [N, H, W, 3], grey repeated in all three channels, and `arr_1`, int64 [N], if there are labels; the same
    bytes that `numpy.savez` writes. Memory holds no images.

    Args:
        path: The file.
        count: Images to come.
        image_shape: Channels, height and width of each.
        labels: Class of each; None where there are none.
    Raises:
        SaveFailedError: If it cannot be written.
    """
    shape = (*image_shape[1:], COLOURS)
    numbers = None if labels is None else np.array(labels, np.int64)
    with image_archive(path, count, shape, numbers) as archive:
        yield lambda images: archive.add(np.broadcast_to(images.transpose(0, 2, 3, 1), (len(images), *shape)))
