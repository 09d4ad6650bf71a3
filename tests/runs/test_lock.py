from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddpm_cli.errors import OutputError, RunError, RunLockedError
from ddpm_cli.runs import lock
from ddpm_cli.runs.directory import create_run
from ddpm_cli.runs.lock import locked
from ddpm_cli.runs.run_directory import RunDirectory

HOLD = """
import sys
from pathlib import Path
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.runs.lock import locked
with locked(RunDirectory(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create_run(tmp_path, "mine", "quick")


@pytest.fixture
def holder(run: RunDirectory) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def enter(run: RunDirectory) -> None:
    with locked(run):
        pass


def test_the_second_process_is_refused(run: RunDirectory, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(RunLockedError) as raised:
        enter(run)
    assert f"process {holder.pid} on {socket.gethostname()}" in raised.value.message
    assert str(run.path) in raised.value.message


def test_the_lock_of_a_dead_process_is_taken_over(run: RunDirectory, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert run.lock_path.read_text().split()[0] == str(holder.pid)
    with locked(run):
        assert run.lock_path.read_text() == f" {os.getpid()} {socket.gethostname()}\n"


def test_it_is_released_at_the_end_and_on_errors(run: RunDirectory) -> None:
    def fail() -> None:
        with locked(run):
            raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError):  # noqa: PT011
            fail()
    enter(run)


def test_no_descriptor_is_left_open(run: RunDirectory) -> None:
    with locked(run):
        first = os.open(run.path, os.O_RDONLY)
        os.close(first)
        for _ in range(3):
            with pytest.raises(RunLockedError):
                enter(run)
        again = os.open(run.path, os.O_RDONLY)
        os.close(again)
    assert again == first


def test_children_do_not_keep_it(run: RunDirectory) -> None:
    # A forked child, as a data loader's worker is, shares the descriptor.
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom ddpm_cli.runs.directory import RunDirectory\n"
        "from ddpm_cli.runs.lock import locked\nrun = RunDirectory(Path(sys.argv[1]))\n"
        "with locked(run):\n    child = os.fork()\n    if child == 0:\n        time.sleep(60)\n        os._exit(0)\n"
        "try:\n    with locked(run):\n        print('again')\nfinally:\n    os.kill(child, 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=False)
    assert done.stdout == "again\n", done.stderr


@pytest.mark.parametrize("content", [b"", b"\x1b[2J", b"x" * 100_000, b"12 " + b"h" * 300 + b"\n", b"1 a\nb\n"])
def test_what_a_stranger_wrote_in_the_lock_file_is_not_shown(run: RunDirectory, content: bytes) -> None:
    with locked(run):
        run.lock_path.write_bytes(content)
        with pytest.raises(RunLockedError, match="in use by another process"):
            enter(run)


def test_a_link_is_not_followed(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    run.lock_path.symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="symbolic link"):
        enter(run)
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_file_system_without_locks(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOSYS, "not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(RunError, match="without locks"):
        enter(run)


def test_the_holder_is_told_though_windows_lets_nobody_read_the_first_byte(
    run: RunDirectory, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "READABLE_FROM", 1)
    with pytest.raises(RunLockedError, match=f"process {holder.pid} on "):
        enter(run)


def test_a_process_of_an_older_version_is_told_and_respected(run: RunDirectory) -> None:
    run.lock_path.write_text("77 oldhost\n")
    with open(run.lock_path, "rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunLockedError, match="process 77 on oldhost"):
            enter(run)
        assert lock.is_locked(run)
    assert not lock.is_locked(run)
    assert run.lock_path.read_text() == "77 oldhost\n"  # a refused process writes nothing
