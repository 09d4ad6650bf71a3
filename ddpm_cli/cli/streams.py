"""Guard stdout and stderr that take no more, because they lead to a full disk or were closed."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from ddpm_cli.errors import SaveFailedError


class Results(io.TextIOWrapper):
    """Write to stdout: what it does not take is lost, and an error says so."""

    def write(self, text: str, /) -> int:
        """Write, or raise SaveFailedError."""
        with self._refusals_told():
            return super().write(text)

    def flush(self) -> None:
        """Flush, or raise SaveFailedError."""
        with self._refusals_told():
            super().flush()

    @contextmanager
    def _refusals_told(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:  # a reader that left early is no fault
            raise
        except OSError as error:
            discard(self)
            raise SaveFailedError(
                f"Cannot write to the standard output: {error.strerror}.", "Free some space, or send it elsewhere."
            ) from error


class Messages(io.TextIOWrapper):
    """Write to stderr: what it does not take is left unsaid, as a full log must not end the work."""

    def write(self, text: str, /) -> int:
        """Write if that can be done."""
        with _refusals_ignored():
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if that can be done."""
        with _refusals_ignored():
            super().flush()


@contextmanager
def _refusals_ignored() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError:
        return


def discard(stream: TextIO) -> None:
    """Send what is still in a stream nowhere: the interpreter (3.11.2, not 3.11.7) flushes it once more at its end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def open_streams(*, with_results: bool) -> None:
    """Put these streams into the places of Python's own.

    Args:
        with_results: False for a process whose results another one prints.
    """
    if with_results and isinstance(sys.stdout, io.TextIOWrapper):
        errors = "backslashreplace" if sys.stdout.errors == "strict" else sys.stdout.errors
        sys.stdout = Results(sys.stdout.buffer, sys.stdout.encoding, errors, line_buffering=sys.stdout.line_buffering)
    else:  # closed, or not wanted
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open as long as the process lives
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = Messages(sys.stderr.buffer, sys.stderr.encoding, sys.stderr.errors, line_buffering=True)
