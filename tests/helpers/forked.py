"""The command in a forked child of a process that has imported torch, for proofs that start it hundreds of times.

A child is a process of its own: it gets the command line, runs the installed command's entry point, and a SIGKILL ends it as it
would end one started by a shell; the kernel closes its files and frees its lock in both. Only the seconds of importing torch are
saved. The parent runs no torch operation and torch has one thread (OMP_NUM_THREADS=1), so no thread pool is broken by the fork.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch

from ddpm_cli.cli.app import main

torch.set_num_threads(1)
DRAIN = 65536


@dataclass
class Child:
    """A command at work.

    Attributes:
        pid: Of its process.
        said: What it wrote to its pipe and was read so far.
    """

    pid: int
    reader: int
    go_ahead: int
    said: bytes = b""
    status: int | None = None

    def hear(self, seconds: float) -> bytes:
        """What it says within `seconds`; empty if nothing, or if it has ended."""
        ready, _, _ = select.select([self.reader], [], [], max(seconds, 0))
        new = os.read(self.reader, DRAIN) if ready else b""
        self.said += new
        return new

    def let_go_on(self) -> None:
        """Answer a child that waits, see `wait_for_parent`."""
        os.write(self.go_ahead, b".")

    def kill(self) -> int:
        """SIGKILL; returns what `wait` does."""
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end, and hear the rest.

        Returns:
            Its exit status, or minus the signal that ended it.
        """
        while self.hear(600):
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.reader)
        os.close(self.go_ahead)
        return os.waitstatus_to_exitcode(status)


@dataclass
class Speaker:
    """The child's ends of the pipes."""

    writer: int
    answer: int

    def say(self, letter: bytes) -> None:
        """Tell the parent."""
        os.write(self.writer, letter)

    def wait_for_parent(self) -> None:
        """Stand still until the parent has looked."""
        os.read(self.answer, 1)


def fork_command(arguments: Sequence[str], folder: Path, log: Path, prepare: Callable[[Speaker], None] = lambda _: None) -> Child:
    """Run `ddpm ARGUMENTS` in `folder`.

    Args:
        arguments: Of the command line.
        folder: Its working folder.
        log: Where its stdout and stderr go.
        prepare: Called in the child before the command, to have it say where it is.
    """
    reader, writer = os.pipe()
    answer, go_ahead = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.close(go_ahead)
        _be_the_command(arguments, folder, log, prepare, Speaker(writer, answer))
    os.close(writer)
    os.close(answer)
    return Child(pid, reader, go_ahead)


def _be_the_command(
    arguments: Sequence[str], folder: Path, log: Path, prepare: Callable[[Speaker], None], speaker: Speaker
) -> None:
    status = 99
    try:
        os.chdir(folder)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        prepare(speaker)
        sys.argv = ["ddpm", *arguments]
        main()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:  # noqa: BLE001 - as Python would at its end
        traceback.print_exc()
        status = 1
    finally:
        sys.stderr.flush()
        os._exit(status)


def wrap_everywhere(original: Callable[..., object], wrapper: Callable[..., object]) -> None:
    """Replace a function in every module of the package that has imported it."""
    for name, module in list(sys.modules.items()):
        if name.startswith("ddpm_cli"):
            for attribute, value in list(vars(module).items()):
                if value is original:
                    setattr(module, attribute, wrapper)


def seconds_since(moment: float) -> float:
    """Seconds of the monotonic clock."""
    return time.monotonic() - moment
