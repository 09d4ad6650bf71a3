"""Keep features of many images: streamed into statistics, or as rows of a file that is mapped into memory."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm_cli.core.io.array_files import read_array
from ddpm_cli.core.io.files import UnreadableError, open_regular, replacing
from ddpm_cli.errors import CheckpointError
from ddpm_cli.metrics.feature_statistics import FrechetStatistics
from ddpm_cli.results.events import Listener, Notice

PART_BYTES = 1 << 22
"""Read at a time."""


def statistics_of(features: Iterable[Tensor], dimensions: int) -> FrechetStatistics:
    """Gather the statistics of features that come in batches, [B, D] each."""
    statistics = FrechetStatistics(dimensions)
    for batch in features:
        statistics.add(batch)
    return statistics


def write_rows(path: Path, batches: Iterator[Tensor], count: int) -> None:
    """Write batches of rows, [B, D] each, to a .npy file, whole or not at all and one batch in memory at a time.

    Behind the rows, where readers of .npy files do not look, stands the sum of all before.

    Args:
        path: The file; its folder must exist.
        batches: At least one; float32 after a cast.
        count: Rows of all batches together.
    Raises:
        OutputError: If it cannot be written.
    """
    first, header = next(batches), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (count, first.shape[1])})
    rows = (_row_bytes(batch) for batch in chain([first], batches))
    with replacing(path) as temporary, open(temporary, "xb") as file:
        crc = 0
        # Not into a memory map: with the disk full that ends the process instead of raising an error.
        for part in chain([header.getvalue()], rows):
            crc = zlib.crc32(part, crc)
            file.write(part)
        file.write(_sum_text(crc))


def mapped_rows(path: Path, count: int) -> Tensor:
    """Map the rows that `write_rows` wrote, float32 [count, D]; the system brings in what is looked at and drops it again.

    Raises:
        CheckpointError: If the file is no such file, or does not match its sum.
    """
    try:
        rows = read_array(path, mapped="c")
        if rows.ndim != 2 or len(rows) != count or rows.dtype != np.float32:
            raise UnreadableError(f"holds {rows.dtype} {rows.shape}, not {count:,} rows of float32")
        _check_sum(path)
        return torch.from_numpy(rows)
    except (UnreadableError, OSError) as error:
        raise CheckpointError(f"{path} {error}.", "Remove it and evaluate again.") from error


def kept_rows(path: Path, batches: Iterator[Tensor], count: int, on_event: Listener) -> Tensor:
    """Map the rows of a file, see `mapped_rows`, which is written if it is missing, and, after a notice, anew if it is damaged."""
    if path.exists():
        try:
            return mapped_rows(path, count)
        except CheckpointError as error:
            on_event(Notice(f"{error.message} It is computed anew.", important=True))
    write_rows(path, batches, count)
    return mapped_rows(path, count)


def _row_bytes(batch: Tensor) -> bytes:
    return batch.to("cpu", torch.float32).contiguous().numpy().astype("<f4", copy=False).tobytes()


def _sum_text(crc: int) -> bytes:
    return f"crc32 {crc:08x}".encode()


def _check_sum(path: Path) -> None:
    crc = 0
    with open(open_regular(path), "rb") as file:
        left = os.fstat(file.fileno()).st_size - len(_sum_text(0))
        while left > 0 and (part := file.read(min(left, PART_BYTES))):
            crc, left = zlib.crc32(part, crc), left - len(part)
        if file.read() != _sum_text(crc):
            raise UnreadableError("does not match the sum at its end, or has none")


def in_batches(rows: Tensor, size: int = 4096) -> Iterator[Tensor]:
    """Take rows a few at a time."""
    return (rows[start : start + size] for start in range(0, len(rows), size))
