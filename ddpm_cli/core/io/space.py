"""Check whether disk and memory can hold what is asked for, before hours are spent on it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Collection
from pathlib import Path

import psutil

from ddpm_cli.errors import RequestError

FLOAT32, FLOAT64 = 4, 8
INCEPTION_FEATURES, INCEPTION_LOGITS = 2048, 1008
NUMBERS = {"inception": INCEPTION_FEATURES + INCEPTION_LOGITS, "classifier": 128}
"""Numbers that a network says of an image, at most."""
MEMORY = {
    "precision-recall": 4 * FLOAT32 * INCEPTION_FEATURES,  # both sets, as they are and centred
    "inception-score": 3 * FLOAT64 * INCEPTION_LOGITS,
}
"""Bytes for each sample that a metric holds at once."""


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


def needed_bytes(
    metrics: Collection[str], kinds: Collection[str], n: int, repeats: int, image_shape: tuple[int, int, int]
) -> tuple[int, int]:
    """Tell how many bytes samples and their metrics take.

    Args:
        metrics: Names of metrics.
        kinds: Of the networks that look at the samples.
        n: Samples of a set.
        repeats: Sets.
        image_shape: Channels, height and width.
    Returns:
        Bytes on disk and bytes in memory. The latter grow with n for two metrics alone; the others stream, or read mapped files.
    """
    numbers = sum(NUMBERS[kind] for kind in kinds)
    # Features lie on disk twice where a metric wants them as one array.
    disk = n * repeats * (math.prod(image_shape) + 2 * FLOAT32 * numbers)
    memory = n * max((per_sample for metric, per_sample in MEMORY.items() if metric in metrics), default=0)
    return disk, memory
