"""Sum a file's blocks, so that it is known again whether the file still holds what was written."""

from __future__ import annotations

import zlib
from functools import partial

from ddpm_cli.core.io.files import read_at
from ddpm_cli.core.threads import in_parallel
from ddpm_cli.results.events import DataProgress, Listener, ignore

BLOCK_BYTES = 1 << 22
DIGITS = 8
"""Of a block's sum."""


def block_sums(descriptor: int, size: int, on_event: Listener = ignore, what: str = "") -> str:
    """Read a file once, by threads, and sum up each block of it.

    CRC-32, which tells every single flipped bit and every flipped run of up to 32, and is as fast as the memory of small machines:
    it is to find damage, not forgery. By `read_at` and not through a mapping, in which a disk that fails is a signal that kills.

    Args:
        descriptor: Of the open file.
        size: Bytes from its start; what is missing of them counts as not there.
        on_event: Told of the progress, in blocks.
        what: What the progress is called.
    Returns:
        DIGITS hexadecimal digits for each block of BLOCK_BYTES, in their order.
    Raises:
        OSError: If it cannot be read.
    """
    count = -(-size // BLOCK_BYTES)
    sums = []
    for number, block_sum in enumerate(in_parallel(partial(_block_sum, descriptor, size), range(count))):
        sums.append(block_sum)
        on_event(DataProgress(number + 1, count, what))
    return "".join(sums)


def differing_blocks(sums: str, others: str) -> int:
    """List blocks whose sums are not the same; those that only one of the two has count too."""
    return sum(sums[at : at + DIGITS] != others[at : at + DIGITS] for at in range(0, max(len(sums), len(others)), DIGITS))


def _block_sum(descriptor: int, size: int, number: int) -> str:
    offset, end, crc = number * BLOCK_BYTES, min((number + 1) * BLOCK_BYTES, size), 0
    while offset < end and (data := read_at(descriptor, end - offset, offset)):  # one call may give a part only
        crc, offset = zlib.crc32(data, crc), offset + len(data)
    return f"{crc:0{DIGITS}x}"
