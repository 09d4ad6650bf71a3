"""Work on many files at once with little in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 16
CHUNKS_AHEAD = 3


def in_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], stop: Callable[[], None] | None = None
) -> Generator[Result]:
    """Compute results in the order of the items, in threads; a few chunks are worked on ahead, never all.

    Threads, because Pillow lets others run while it decodes and resizes: processes for all were slower on small pictures, and
    each would hold a copy of the list of files. Close the iterator (`contextlib.closing`) to end what has not begun.

    Args:
        function: What to do with each; its error ends all.
        items: What to work on.
        stop: Ends what threads are at; called at the end, which waits for them, also if that is an error or a signal.
    """
    return chunks_in_parallel(function, (items[start : start + CHUNK] for start in range(0, len(items), CHUNK)), stop)


def chunks_in_parallel(
    function: Callable[[Item], Result], chunks: Iterable[Sequence[Item]], stop: Callable[[], None] | None = None
) -> Generator[Result]:
    """Compute results as `in_parallel` does, of items that come in chunks, of which a few are held at any time.

    Args:
        function: As there.
        chunks: Taken one after the other, by the thread that asks for the results.
        stop: As there.
    """
    workers = processors()
    waiting: deque[Future[list[Result]]] = deque()
    stopped = Event()

    def work_on(chunk: Sequence[Item]) -> list[Result]:
        return [function(item) for item in chunk if not stopped.is_set()]

    with ThreadPoolExecutor(workers) as pool:
        try:
            for chunk in chunks:
                waiting.append(pool.submit(work_on, chunk))
                if len(waiting) >= CHUNKS_AHEAD * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            stopped.set()
            for future in waiting:
                future.cancel()
            if stop is not None:
                stop()


def processors() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
