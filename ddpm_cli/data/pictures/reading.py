"""Read many pictures of a collection at once: each by itself, or all in their order where none can be read alone."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import TypeVar

from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.core.threads import CHUNK, chunks_in_parallel
from ddpm_cli.data.pictures.settings import Pictures
from ddpm_cli.errors import DataError

Result = TypeVar("Result")
Read = Callable[[], bytes]
"""Gives the bytes of a picture; raises UnreadableError or OSError."""

CHUNK_BYTES = 1 << 20
"""Of pictures that wait to be worked on together."""

Item = tuple[int, int, Read]


def over_pictures(
    function: Callable[[Read, int], Result], pictures: Pictures, numbers: Sequence[int], stop: Callable[[], None] | None = None
) -> Generator[tuple[int, Result]]:
    """Work on pictures in threads, as `threads.in_parallel` does.

    Args:
        function: Is given what reads a picture, and its number.
        pictures: The collection.
        numbers: Of the pictures to work on.
        stop: As there.
    Yields:
        The place of each in `numbers`, and the result; in the order of `numbers` where pictures can be read alone.
    Raises:
        DataError: If some of them do not come up any more in a file that is read in its order.
    """

    def work(item: Item) -> tuple[int, Result]:
        return item[0], function(item[2], item[1])

    seen = 0
    with closing(chunks_in_parallel(work, _chunks(pictures, numbers), stop)) as results:
        for result in results:
            seen += 1
            yield result
    if seen < len(numbers):
        raise DataError(
            f"{pictures.source} was changed while it was read.", "Wait until nothing writes there any more, and start again."
        )


def _chunks(pictures: Pictures, numbers: Sequence[int]) -> Iterator[list[Item]]:
    if pictures.in_order is None:
        for start in range(0, len(numbers), CHUNK):
            places = range(start, min(start + CHUNK, len(numbers)))
            yield [(place, numbers[place], partial(pictures.read, numbers[place])) for place in places]
        return
    places_of = {number: place for place, number in enumerate(numbers)}
    chunk: list[Item] = []
    waiting = 0
    for number, content in pictures.in_order():
        if (place := places_of.pop(number, None)) is not None:
            chunk.append((place, number, partial(_given, content)))
            waiting += len(content)
            if not places_of:
                break
            if len(chunk) == CHUNK or waiting >= CHUNK_BYTES:
                yield chunk
                chunk, waiting = [], 0
    yield chunk


def _given(content: bytes) -> bytes:
    if not content:
        raise UnreadableError("is missing, empty, or far too large for a picture")
    return content
