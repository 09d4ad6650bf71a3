"""Decode pictures that may take long or much in a process that can be ended at any moment, and ends itself.

It answers each question on stdin by one on stdout, see `decoders.receive`:

    question    {"what": a function of picture.py, "arguments": [...], "seconds": that it may take}, and the encoded picture
    answer      {"found": what the function returned}, and the pixels; or {"unreadable": reason}
    or, before  {"room": pixels that it will hold}, to which {} says that there is room for them
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.data.pictures import decode as picture
from ddpm_cli.data.pictures.decoders import FRAME, IDLE_SECONDS, READY, receive
from ddpm_cli.data.pictures.resizing import Wanted

MOST_BYTES = 4 << 30
"""Of addresses: nine for each pixel of the largest picture, its file, and what a format's decoder holds for itself."""

UNASKED_PIXELS = 1_000_000
"""Held without a question, which takes longer than to decode a small picture."""


class Room(picture.PixelBudget):
    """Ask the process that all pixels are counted in for room; waiting for its answer is no decoding."""

    def __init__(self, questions: BinaryIO, answers: BinaryIO) -> None:
        super().__init__()
        self._questions, self._answers = questions, answers
        self.seconds = 0.0

    @contextlib.contextmanager
    def room_for(self, pixels: int) -> Iterator[None]:
        """Wait for room, if it is much."""
        if pixels > UNASKED_PIXELS:
            faulthandler.cancel_dump_traceback_later()
            send(self._answers, {"room": pixels})
            receive(self._questions)
            _end_after(self.seconds)
        with super().room_for(pixels):
            yield


def main() -> None:
    """Answer until nobody asks any more."""
    for name in ("SIGINT", "SIGUSR1"):  # sent to all processes of a terminal or job: whoever asks will end this one
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    warnings.simplefilter("ignore")
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a decoder prints is no answer
    _limit_memory()
    room = picture.IN_MEMORY = Room(questions, answers)
    answers.write(READY)
    answers.flush()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            _end_after(IDLE_SECONDS)
            question, content = receive(questions)
            room.seconds = question["seconds"]
            _end_after(room.seconds)  # which replaces the other
            answer, pixels = _answered(content, **question)
            faulthandler.cancel_dump_traceback_later()
            send(answers, answer, pixels)


def _answered(content: bytes, what: str, arguments: list[Any], seconds: float) -> tuple[dict[str, Any], bytes]:
    try:
        if what == "decode":
            return {"found": None}, picture.decode(content, tuple(arguments[0]), arguments[1]).tobytes()
        if what == "decode_deep":
            shape, background, wanted = arguments
            values, outside = picture.decode_deep(content, tuple(shape), background, Wanted(*wanted))
            return {"found": outside}, values.tobytes()
        return {"found": getattr(picture, what)(content)}, b""
    except (UnreadableError, MemoryError) as error:
        lacks_memory = MemoryError in (type(error), type(error.__cause__))
        return {"unreadable": f"needs more than {MOST_BYTES >> 30} GB to decode" if lacks_memory else str(error)}, b""


def _end_after(seconds: float) -> None:
    """End this process then, wherever it is: a signal's handler in Python would wait for the decoder."""
    faulthandler.dump_traceback_later(seconds, exit=True)


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has none; elsewhere a lower one may hold already
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))


def send(stream: BinaryIO, message: dict[str, Any], content: bytes = b"") -> None:
    """Say something to whoever asks."""
    text = json.dumps(message, default=bytes.hex).encode()
    stream.write(FRAME.pack(len(text), len(content)) + text)
    stream.write(content)
    stream.flush()


if __name__ == "__main__":
    main()
