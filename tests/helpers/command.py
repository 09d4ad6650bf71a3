"""Running the installed command as a person would, and judging what it did."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import tiny_configs
from command_server import the_server
from tiny_configs import as_options

# Before any test imports torch: two workers with two threads each would fight for two cores.
os.environ["OMP_NUM_THREADS"] = "1"

Ddpm = Callable[..., subprocess.CompletedProcess[str]]

TINY = (
    f"--data={tiny_configs.TINY['data.kind']}",
    f"--batch-size={tiny_configs.TINY['train.batch_size']}",
    *(option for option in as_options(tiny_configs.TINY) if not option.startswith(("--set=data.kind", "--set=train.batch_size"))),
    "--set=model.dropout=0.1",
)
"""The tiny config as options of `ddpm train`, with dropout, whose draws a resume has to bring back."""


def environment() -> dict[str, str]:
    return os.environ | {"COLUMNS": "100", "PYTHONWARNINGS": "default"}


def run_ddpm(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, forked off one that has imported everything; see command_server.py."""
    return the_server().run(arguments, cwd, environment())


def run_ddpm_anew(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command as a shell starts it: it has to import all that it needs."""
    command = [sys.executable, "-m", "ddpm_cli", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=120, check=False)


def files_below(folder: Path) -> dict[str, int]:
    """Every file below a folder with its time of change, to see that nothing was touched."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One message on stderr with these words, exit status 2, and no traceback."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    flat = " ".join(done.stderr.split())
    missing: Sequence[str] = [word for word in words if word not in flat]
    assert not missing, (missing, done.stderr)
