"""Measure what other programs take of the processors."""

from __future__ import annotations

import os
import time
from typing import Any

import psutil


class Processors:
    """Measure what other programs take of the processors that this process may use, from one look to the next.

    Args:
        wanted: Processors that this process has work for.
    """

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self._last = _Reading()

    @property
    def seconds(self) -> float:
        """Count seconds since the last look."""
        return time.monotonic() - self._last.time

    def lost(self) -> float:
        """Tell which part of the processors that are wanted others had since the last look, in [0, 1]; look again.

        Programs that take processors which this process has no work for cost it nothing. The clock of the operating system's
        counts ticks every hundredth of a second: look no more often than every few tenths.
        """
        before, self._last = self._last, _Reading()
        passed = self._last.time - before.time
        if passed <= 0:
            return 0.0
        free: float = (self._last.idle - before.idle) / passed
        own = (self._last.own - before.own) / passed
        had = min(own + free, self.wanted)
        return min(max(1 - had / self.wanted, 0.0), 1.0)

    def left(self, lost: float) -> int:
        """Tell how many of the processors that are wanted others leave, at least 1."""
        return max(1, round(self.wanted * (1 - lost)))


class _Reading:
    """Hold what the clocks say now: seconds of the wall's clock, of idle processors, and of this process."""

    def __init__(self) -> None:
        self.time = time.monotonic()
        self.idle = sum(times.idle + getattr(times, "iowait", 0.0) for times in _usable())
        self.own = time.process_time()


def _usable() -> list[Any]:
    """Times of the processors that this process may use."""
    every: list[Any] = psutil.cpu_times(percpu=True)
    if not hasattr(os, "sched_getaffinity"):
        return every
    allowed = os.sched_getaffinity(0)
    return [times for number, times in enumerate(every) if number in allowed]
