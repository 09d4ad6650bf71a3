"""Signals as Slurm, a shell or an operating system sends them, at moments when a command is not between two steps."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import TINY, environment, run_ddpm
from repository import ROOT

from ddpm_cli.core.io.temporaries import TEMPORARY_PREFIX
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.metrics_log import read_rows
from ddpm_cli.runs.run_directory import RunDirectory

# A grid that would take minutes.
LONG_GRID = ("--set=train.sampler.steps=1000", "--set=train.sample_n=500", "--set=sample.batch_size=500")


def test_slurms_warning_during_a_long_grid_saves_at_once(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "ddpm_cli",
        "train",
        *TINY,
        *LONG_GRID,
        "--steps=9",
        "--name=run",
        "--set=train.sample_every=2",
        "--set=train.log_every=1",
    ]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step 1"):  # the next step's grid is what comes now
                break
        time.sleep(2)
        process.send_signal(signal.SIGUSR1)
        errors = process.stderr.read()
    assert process.returncode == 128 + signal.SIGUSR1, errors
    assert "Stopped and saved at step 2. Go on with: ddpm resume runs/run" in " ".join(errors.split())
    assert "Traceback" not in errors
    run = RunDirectory(tmp_path / "runs/run")
    assert latest_checkpoint(run).step == 2
    assert not list(run.samples_folder.iterdir())
    assert not list(tmp_path.rglob(f"{TEMPORARY_PREFIX}*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_while_a_command_starts_ends_it_with_a_message(number: int, tmp_path: Path) -> None:
    """It comes while a package is imported, for which a package of that name stands in."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "accelerate.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\n")
    work = tmp_path / "work"
    work.mkdir()
    path = f"{packages}:{ROOT}"
    done = subprocess.run(
        [sys.executable, "-m", "ddpm_cli", "train", *TINY, "--steps=1"],
        cwd=work,
        env=environment() | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 128 + number, done.stderr
    assert f"Stopped by {signal.Signals(number).name}." in done.stderr
    assert "Traceback" not in done.stderr
    assert list(work.iterdir()) == []


def test_samples_that_a_signal_ends_leave_no_file(trained_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    command = [sys.executable, "-m", "ddpm_cli", "sample", "tiny", "--n=5000", "--steps=50", f"--out={out}"]
    with subprocess.Popen(command, cwd=trained_folder, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()
        time.sleep(2)
        process.send_signal(signal.SIGTERM)
        errors = process.stderr.read()
    assert process.returncode == 143, errors
    assert "Stopped by SIGTERM." in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_the_command_itself_is_imported_ends_it_quietly(tmp_path: Path) -> None:
    """A package of typer's name stands in for what is imported first."""
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    path = f"{tmp_path}:{ROOT}"
    done = subprocess.run(
        [sys.executable, "-m", "ddpm_cli", "config", "show"],
        env=environment() | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_signal_while_the_command_line_is_read_is_told_by_name(tmp_path: Path) -> None:
    code = (
        "import os, signal, ddpm_cli.cli.app as app\n"
        "app.show_version.__code__ = (lambda wanted: os.kill(os.getpid(), signal.SIGUSR1)).__code__\n"
        "app.os, app.signal = os, signal\n"
        "app.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "config", "show"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (128 + signal.SIGUSR1, "error: Stopped by SIGUSR1.\n")


@pytest.mark.parametrize(("number", "sight"), [(signal.SIGTERM, 1), (signal.SIGKILL, 2)])
def test_a_signal_in_the_midst_of_a_save_loses_nothing(number: signal.Signals, sight: int, tmp_path: Path) -> None:
    """SIGTERM lets it be completed; SIGKILL leaves the checkpoint before, and what is half written is swept at the resume."""
    command = [sys.executable, "-m", "ddpm_cli", "train", *TINY, "--steps=9", "--name=run", "--set=checkpoint.every=3"]
    saving = tmp_path / "runs/run/checkpoints"
    code = (
        "import os\n"
        "from pathlib import Path\n"
        "from ddpm_cli.cli.app import main\n"
        "rename, seen = os.rename, []\n"
        "def rename_noticed(old, new):\n"
        "    if Path(new).parent.name == 'checkpoints':\n"
        "        seen.append(new)\n"
        f"        if len(seen) == {sight}: os.kill(os.getpid(), {int(number)})\n"
        "    rename(old, new)\n"
        "os.rename = rename_noticed\n"
        "main()"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, *command[3:]],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    left = sorted(path.name for path in saving.iterdir())
    if number == signal.SIGTERM:
        assert killed.returncode == 143
        assert "Stopped and saved at step 4." in killed.stderr
        assert left == ["step-00000003", "step-00000004"]
    else:
        assert killed.returncode == -9
        assert [name.startswith(TEMPORARY_PREFIX) for name in left] == [True, False]
        assert left[1] == "step-00000003"
    resumed = run_ddpm("resume", "run", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert not list(tmp_path.rglob(f"{TEMPORARY_PREFIX}*"))
    assert [row["step"] for row in read_rows(tmp_path / "runs/run/metrics.jsonl")] == [2, 3, 4, 6, 8, 9]
