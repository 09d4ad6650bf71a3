"""Work on many files at once with little in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 16
CHUNKS_AHEAD = 3


def in_parallel(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Results in the order of the items, from threads; a few chunks are worked on ahead, never all.

    Threads, because Pillow lets others run while it decodes and resizes: processes were no faster and each would hold a copy
    of the list of files.

    Args:
        function: What to do with each; its error ends all.
        items: What to work on.
    """
    workers = _processors()
    waiting: deque[Future[list[Result]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for start in range(0, len(items), CHUNK):
                waiting.append(pool.submit(_each, function, items[start : start + CHUNK]))
                if len(waiting) >= CHUNKS_AHEAD * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]


def _processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
