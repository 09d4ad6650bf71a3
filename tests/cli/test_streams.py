"""stdout and stderr that lead to a full disk, for which /dev/full stands in, or that are closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command import environment


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = line.replace("ddpm", f"{sys.executable} -m ddpm_cli", 1)
    return subprocess.run(
        ["bash", "-c", command], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("line", ["--version", "config show", "inspect-schedule --csv"])
def test_results_that_find_no_room_are_an_error_that_says_so(line: str, tmp_path: Path) -> None:
    done = shell(f"ddpm {line} > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("rror") == 1  # neither a second time nor by the interpreter at its end
    assert done.stderr.splitlines()[-2:] == [
        "error: Cannot write to the standard output: No space left on device.",
        "  Free some space, or send it elsewhere.",
    ]


def test_messages_that_find_no_room_do_not_end_the_work(trained_folder: Path, tmp_path: Path) -> None:
    done = shell(f"ddpm sample tiny -n 2 --out {tmp_path}/grid.png 2> /dev/full", trained_folder)
    assert done.returncode == 0
    assert (tmp_path / "grid.png").is_file()


def test_an_error_that_cannot_be_said_keeps_its_exit_status(tmp_path: Path) -> None:
    assert shell("ddpm config show --preset quik 2> /dev/full", tmp_path).returncode == 2
    assert shell("ddpm config shw 2> /dev/full", tmp_path).returncode == 2


def test_streams_that_are_closed_are_no_fault(tmp_path: Path) -> None:
    done = shell("ddpm config show >&-", tmp_path)
    assert done.returncode == 0
    assert "error" not in done.stderr
    assert "Traceback" not in done.stderr
    done = shell("ddpm config show 2>&-", tmp_path)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "[data]")
