"""Time what the check of the image cache adds to a start: a million small pictures, all of their bytes compared with their sums.

python examples/benchmarks/image_cache.py [IMAGES] [FOLDER]     1,000,000 images of 32x32 colour, 3.1 GB, in a temporary folder
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ddpm_cli.core.io.block_sums import block_sums

IMAGE_BYTES = 3 * 32 * 32
ROUNDS = 3


def main() -> None:
    """Write the pixels of a cache, then time the check of them, as they lie in memory and as they come from the disk."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
        path = Path(folder, "images.u8")
        _write(path, images)
        descriptor = os.open(path, os.O_RDONLY)
        before = time.process_time()
        warm = [_seconds(descriptor, images * IMAGE_BYTES) for _ in range(ROUNDS)]
        of_processors = (time.process_time() - before) / ROUNDS
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        cold = _seconds(descriptor, images * IMAGE_BYTES)
        os.close(descriptor)
    size = images * IMAGE_BYTES
    print(f"{images:,} images of 32x32 colour, {size / 1e9:.2f} GB, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    print(f"in memory:     {', '.join(f'{seconds:.2f}' for seconds in warm)} s, at best {size / min(warm) / 1e9:.2f} GB/s")
    print(f"               {of_processors:.2f} s of processor time, which other programs do not lengthen")
    print(f"from the disk: {cold:.2f} s, {size / cold / 1e9:.2f} GB/s")


def _write(path: Path, images: int) -> None:
    noise, left = np.random.default_rng(0).bytes(1 << 24), images * IMAGE_BYTES
    with path.open("wb") as file:
        while left:
            left -= file.write(noise[: min(left, len(noise))])


def _seconds(descriptor: int, size: int) -> float:
    started = time.perf_counter()
    block_sums(descriptor, size)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
