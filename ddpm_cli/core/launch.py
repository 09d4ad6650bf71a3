"""Tell the place of this process among those of `torchrun` or `accelerate launch`, as their environment has it."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

SECONDS_FOR_MAIN = 5.0
"""What the main process gets to speak first, and the launcher to end the others once it has."""


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else default


def rank() -> int:
    """Tell the number of this process over all machines; 0 is the main one."""
    return _number("RANK", 0)


def processes() -> int:
    """Count the processes over all machines; 1 without a launcher."""
    return max(_number("WORLD_SIZE", 1), 1)


def is_main() -> bool:
    """Tell whether this process draws, prints and writes for all."""
    return rank() == 0


def own_name() -> str:
    """Name this process in messages."""
    return f"process {rank()} of {processes()} on {socket.gethostname()}"


def let_main_speak() -> None:
    """Wait, on other processes than the main one, so that what goes wrong everywhere is told once.

    A launcher ends all processes as soon as one has ended. Where the main process meets the same error it says so and ends, and
    this one is ended here, silently. Returning means that the error is this machine's, or this process's, own.
    """
    if processes() == 1:
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN if is_main() else signal.SIG_DFL)
    if not is_main():
        time.sleep(SECONDS_FOR_MAIN if _number("LOCAL_RANK", 0) == 0 else 2 * SECONDS_FOR_MAIN)


def tell_launcher(message: str) -> None:
    """Leave a message in torchrun's error file, from which the summary quotes that of the process which failed first."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path is None:
        return
    told = {"message": message, "extraInfo": {"py_callstack": message, "timestamp": str(int(time.time()))}}
    with suppress(OSError):  # the summary is a courtesy; the message itself goes to stderr
        Path(path).write_text(json.dumps({"message": told}), "utf-8")


def restarts() -> int:
    """Count how often the launcher started this process again: torchrun after a failure on this machine, Slurm after a requeue."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0) + _number("SLURM_RESTART_COUNT", 0)


def on_one_machine() -> bool:
    """Tell whether all processes of the launch are on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1) == processes()


def launch_key() -> str | None:
    """Tell what all restarts of one torchrun and no other have in common: its --rdzv-id, or else its machine, process and start.

    None without torchrun.
    """
    run_id = os.environ.get("TORCHELASTIC_RUN_ID")
    if run_id is None:
        return None
    return f"id {run_id}" if run_id != "none" else f"{socket.gethostname()} {os.getppid()} {_start_of(os.getppid())}"


def _start_of(process: int) -> str:
    """When a process started, in ticks since the machine did; empty where the system does not say."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text("utf-8")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]
