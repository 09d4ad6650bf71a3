"""Check whether disk and memory can hold what is asked for, before hours are spent on it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Collection
from pathlib import Path

import psutil

from ddpm_cli.errors import RequestError

FLOAT32 = 4
INCEPTION_FEATURES, INCEPTION_LOGITS = 2048, 1008
NUMBERS = {"inception": INCEPTION_FEATURES + INCEPTION_LOGITS, "classifier": 128}
"""Numbers that a network says of an image, at most."""


def require_space(folder: Path, disk_bytes: int, memory_bytes: int) -> None:
    """Refuse work that would fill the disk or the memory.

    Args:
        folder: Where files will go; it need not exist yet.
        disk_bytes: That will be written there.
        memory_bytes: That will be held at once.
    Raises:
        RequestError: With what is needed and what is free.
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(existing).free
    if disk_bytes > free:
        raise RequestError(
            f"The samples and their features need {disk_bytes:,} bytes of disk, but {existing} has {free:,} bytes free.",
            "Lower --n or --repeats, or choose another folder by --out.",
        )
    available = psutil.virtual_memory().available
    if memory_bytes > available:
        raise RequestError(
            f"These metrics need {memory_bytes:,} bytes of memory, but {available:,} bytes are free.",
            "Lower --n, or ask for fid or fcd, which need no more memory for more samples.",
        )


def sample_files_bytes(kinds: Collection[str], count: int, image_shape: tuple[int, int, int]) -> int:
    """Count the bytes on disk that samples and their features take.

    Args:
        kinds: Of the networks that look at the samples.
        count: Samples of all sets.
        image_shape: Channels, height and width.
    """
    # Features lie on disk twice where a metric wants them as one array.
    return count * (math.prod(image_shape) + 2 * FLOAT32 * sum(NUMBERS[kind] for kind in kinds))
