"""Draw random numbers as pure functions of the seed and a counter.

Each optimizer step seeds its own draws from (seed, purpose, step), so there is no random state to save: resuming at step N, or with
another number of processes, draws exactly what an uninterrupted run would have drawn.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch


def seed_of(seed: int, purpose: str, *counters: int) -> int:
    """Derive a 63-bit seed for one purpose and place in the run.

    Args:
        seed: The run's seed, in [0, 2**32).
        purpose: What is drawn, for example "noise".
        counters: Where, for example the step and the rank; each at least 0.

    Returns:
        An integer in [0, 2**63).
    """
    # NumPy pads short entropy with zeros: without its length, (0,) would draw what () draws.
    entropy = [seed, zlib.crc32(purpose.encode()), len(counters), *counters]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(device: torch.device, seed: int, purpose: str, *counters: int) -> torch.Generator:
    """Make a generator on `device` that is seeded by `seed_of`."""
    return torch.Generator(device).manual_seed(seed_of(seed, purpose, *counters))
