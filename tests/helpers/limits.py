"""What a hostile file may cost: 5 seconds of computing and 500 MB of memory, beyond what was in use before."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 5
BYTES = 500_000_000
_UNIT = 1 if sys.platform == "darwin" else 1024


@contextmanager
def within_limits() -> Iterator[None]:
    """Fail if the block takes more. Seconds are those of the processor, so that a busy machine fails nothing."""
    before, started = _forgotten_peak(), time.process_time()
    yield
    seconds, taken = time.process_time() - started, _peak() - before
    assert seconds < SECONDS, f"{seconds:.1f} s"
    assert taken < BYTES, f"{taken / 1e6:.0f} MB"


def _forgotten_peak() -> int:
    """The peak from now on: Linux lets a process forget an earlier one, which would hide what comes; elsewhere it may hide it."""
    peak = Path("/proc/self/clear_refs")
    if peak.exists():
        peak.write_text("5")
    return _peak()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
