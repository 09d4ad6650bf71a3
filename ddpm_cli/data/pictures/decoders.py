"""Decode pictures within bounds: those that a stranger's file may make long or large, in processes that can be ended."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.data.pictures import decode as picture
from ddpm_cli.data.pictures.decode import IN_MEMORY, Header, Levels, TooManyPixelsError, Whole
from ddpm_cli.data.pictures.resizing import Wanted
from ddpm_cli.errors import DdpmError

SECONDS = 30.0
"""That a picture may take; the largest of the slowest format, JPEG 2000, takes a sixth of it."""

QUICK_BYTES, QUICK_PIXELS = 1_000_000, 1_000_000
QUICK_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"P")
"""Of PNG, JPEG, GIF, BMP and PPM, which take time by their bytes and pixels alone, but for the scans of a JPEG."""

TINY_BYTES = 128
"""In which no picture is hidden whose time matters, of any format."""

START_OF_SCAN, QUICK_SCANS = b"\xff\xda", 20
COMMAND = (sys.executable, "-P", "-m", "ddpm_cli.data.pictures.decoder_process")
FRAME = struct.Struct("<IQ")
"""Before each message: the length of its JSON, and of the bytes that follow."""

READY = b"ready"
IDLE_SECONDS = 60.0
"""After which a process that nobody asks ends itself."""


class Decoders:
    """Read pictures, for several threads at once, and name one that takes too long or too much, or ends its decoder.

    A small picture of a format whose time is known beforehand is decoded in this process, as another one would take longer to
    be asked; all others, in a process for each thread, which is ended with the block if it is at work.
    """

    def __init__(self) -> None:
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes that are at work; a thread that waits for one gets an UnreadableError."""
        with self._lock:
            self._closed = True
            for process in self._idle:
                _keep(process)
            for process in self._all.difference(self._idle):
                process.end()
            self._all.clear()
            self._idle.clear()

    def read_header(self, content: bytes) -> Header:
        """Read as `decode.read_header` does."""
        if _is_quick(content):
            with contextlib.suppress(TooManyPixelsError):
                return picture.read_header(content, QUICK_PIXELS)
        return Header(*self._ask(content, "read_header")[0])

    def read_whole(self, content: bytes) -> Whole:
        """Read as `decode.read_whole` does."""
        if _is_quick(content):
            with contextlib.suppress(TooManyPixelsError):
                return picture.read_whole(content, QUICK_PIXELS)
        (header, digest, levels), _ = self._ask(content, "read_whole")
        return Whole(Header(*header), bytes.fromhex(digest), _levels(levels))

    def read_levels(self, content: bytes) -> Levels | None:
        """Read as `decode.read_levels` does."""
        if _is_quick(content):
            with contextlib.suppress(TooManyPixelsError):
                return picture.read_levels(content, QUICK_PIXELS)
        levels, _ = self._ask(content, "read_levels")
        return levels and _levels(levels)

    def decode(self, content: bytes, shape: tuple[int, int, int], background: str) -> NDArray[np.uint8]:
        """Decode as `decode.decode` does."""
        if _is_quick(content):
            with contextlib.suppress(TooManyPixelsError):
                return picture.decode(content, shape, background, QUICK_PIXELS)
        return np.frombuffer(self._ask(content, "decode", shape, background)[1], np.uint8).reshape(shape).copy()

    def decode_deep(self, content: bytes, shape: tuple[int, int, int], background: str, wanted: Wanted) -> tuple[NDArray[Any], int]:
        """Decode as `decode.decode_deep` does."""
        if _is_quick(content):
            with contextlib.suppress(TooManyPixelsError):
                return picture.decode_deep(content, shape, background, wanted, QUICK_PIXELS)
        outside, values = self._ask(content, "decode_deep", shape, background, wanted)
        return np.frombuffer(values, wanted.stored).reshape(shape).copy(), outside

    def _ask(self, content: bytes, what: str, *arguments: object) -> tuple[Any, bytes]:
        process = self._taken()
        try:
            answer = process.ask(content, what, arguments)
        except BaseException:  # a signal too: what it has not answered would be taken for the answer to the next question
            self._dismiss(process)
            raise
        with self._lock:
            self._idle.append(process)
        return answer

    def _taken(self) -> _Process:
        with self._lock:
            if self._closed:
                raise UnreadableError("was not decoded, because the work was stopped")
            if self._idle:
                return self._idle.pop()
            process = _kept() or _Process()
            self._all.add(process)
            return process

    def _dismiss(self, process: _Process) -> None:
        with self._lock:
            self._all.discard(process)
        process.end()


def _levels(about: Sequence[Any]) -> Levels:
    """Levels that were written as JSON, which knows no tuples."""
    depth, low, high, said = about
    return Levels(depth, low, high, said and (said[0], said[1]))


_spare: list[_Process] = []
"""Idle processes, which the next Decoders take over: to start one takes longer than to decode many pictures."""

_spare_lock = threading.Lock()


def _keep(process: _Process) -> None:
    with _spare_lock:
        if not _spare:
            atexit.register(_end_spare)
        _spare.append(process)


def _kept() -> _Process | None:
    with _spare_lock:
        while _spare:
            process = _spare.pop()
            if process.is_fresh:
                return process
            process.end()
    return None


def _end_spare() -> None:
    with _spare_lock:
        while _spare:
            _spare.pop().end()


def _is_quick(content: bytes) -> bool:
    """Whether it takes less than a second, if it has no more than QUICK_PIXELS."""
    if len(content) <= TINY_BYTES:
        return True
    return len(content) <= QUICK_BYTES and content.startswith(QUICK_STARTS) and content.count(START_OF_SCAN) <= QUICK_SCANS


class _Process:
    """Run a process that decodes one picture at a time; see decoder_process.py for what is said to it."""

    def __init__(self) -> None:
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        environment = os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}  # its threads would count as memory
        self._popen = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._to, self._from = self._popen.stdin, self._popen.stdout
        self._started = False
        self._command, self._parent, self._last = COMMAND, os.getpid(), time.monotonic()

    @property
    def is_fresh(self) -> bool:
        """Tell whether it is ours and has not been idle for so long that it may end at any moment."""
        idle = time.monotonic() - self._last
        return idle < IDLE_SECONDS / 2 and (self._command, self._parent) == (COMMAND, os.getpid())

    def ask(self, content: bytes, what: str, arguments: Sequence[object]) -> tuple[Any, bytes]:
        """Ask what one of `picture`'s functions makes of a picture.

        Raises:
            UnreadableError: If it does, or takes too long, or ends the process.
        """
        if not self._started:
            self._require_ready()
        try:
            asked = time.monotonic()
            self._send({"what": what, "arguments": arguments, "seconds": SECONDS}, content)
            answer, pixels = self._received()
            while "room" in answer:
                with IN_MEMORY.room_for(answer["room"]):
                    asked = time.monotonic()
                    self._send({})
                    answer, pixels = self._received()
        except (EOFError, BrokenPipeError) as error:
            raise UnreadableError(self._how_it_ended(time.monotonic() - asked)) from error
        if "unreadable" in answer:
            raise UnreadableError(answer["unreadable"])
        self._last = time.monotonic()
        return answer["found"], pixels

    def end(self) -> None:
        """Kill it, if it lives; a thread that waits for its answer reads the end of the file."""
        if self._parent != os.getpid():  # forked since: it is another's
            return
        self._popen.kill()
        self._popen.wait()
        self._from.close()
        with contextlib.suppress(BrokenPipeError):
            self._to.close()

    def _require_ready(self) -> None:
        if self._from.read(len(READY)) != READY:
            raise DdpmError("The process that decodes pictures does not start.", f"Try it: {' '.join(COMMAND)} < /dev/null")
        self._started = True

    def _send(self, question: dict[str, object], content: bytes = b"") -> None:
        text = json.dumps(question).encode()
        self._to.write(FRAME.pack(len(text), len(content)) + text)
        self._to.write(content)
        self._to.flush()

    def _received(self) -> tuple[dict[str, Any], bytes]:
        return receive(self._from)

    def _how_it_ended(self, seconds: float) -> str:
        status = self._popen.wait()
        if seconds >= SECONDS:
            return f"takes longer than {SECONDS:g} s to decode"
        return f"brings its decoder down (exit status {status})"


def receive(stream: Any) -> tuple[dict[str, Any], bytes]:
    """Receive a message and the bytes that come with it.

    Raises:
        EOFError: If whoever writes it has ended.
    """
    text_length, content_length = FRAME.unpack(_exactly(stream, FRAME.size))
    return json.loads(_exactly(stream, text_length)), _exactly(stream, content_length)


def _exactly(stream: Any, count: int) -> bytes:
    data: bytes = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data
