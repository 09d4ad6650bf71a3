"""A disk that takes no more: one message, the checkpoints before are intact, and the run goes on when there is room."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command import TINY, environment, files_below
from safetensors.numpy import load_file

from ddpm_cli.cli.app import run as run_command
from ddpm_cli.core.io.temporaries import TEMPORARY_PREFIX
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.run_directory import RunDirectory

TRAIN = [
    "train",
    *TINY,
    "--name=run",
    "--steps=6",
    "--set=train.log_every=1",
    "--set=train.sample_every=3",
    "--set=checkpoint.every=2",
    "--set=data.limit=24",
]
RUN = Path("runs/run")


@contextmanager
def refusing(path: Path, number: int) -> Iterator[None]:
    """Make what puts something at `path` fail: its rename, or its write if it is written in place."""

    def on_rename(real: Callable[..., None]) -> Callable[..., None]:
        def call(source: Path, target: Path) -> None:
            if Path(target) == path:
                raise OSError(number, os.strerror(number))
            real(source, target)

        return call

    write = os.write

    def on_write(descriptor: int, data: bytes) -> int:
        if path.is_file() and os.path.samestat(os.fstat(descriptor), path.stat()):
            raise OSError(number, os.strerror(number))
        return write(descriptor, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", on_rename(os.rename))
        patch.setattr(os, "replace", on_rename(os.replace))
        patch.setattr(os, "write", on_write)
        yield


def final(run: Path) -> dict[str, Any]:
    newest = latest_checkpoint(RunDirectory(run)).path
    assert newest.name == "step-00000006"
    tensors = {
        f"{file.stem}/{key}": value.tobytes() for file in newest.glob("*.safetensors") for key, value in load_file(file).items()
    }
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    return tensors | {"losses": losses}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_command(TRAIN, debug=False) == 0
    return final(folder / RUN)


@pytest.mark.parametrize(
    ("name", "number", "status", "words"),
    [
        ("config.toml", errno.EDQUOT, 1, "your disk quota is used up"),
        ("run.json", errno.ENOSPC, 1, "the disk is full"),
        ("lock", errno.ENOSPC, 1, "the disk is full"),
        ("metrics.jsonl", errno.ENOSPC, 1, "the disk is full"),
        ("metrics.json", errno.EDQUOT, 1, "your disk quota is used up"),
        ("samples/step-00000003.png", errno.EROFS, 1, "the file system is read-only"),
        ("samples.png", errno.ENOSPC, 1, "the disk is full"),
        ("checkpoints/step-00000002", errno.ENOSPC, 1, "the disk is full"),
        ("checkpoints/step-00000004", errno.EDQUOT, 1, "your disk quota is used up"),
    ],
)
def test_each_file_of_a_run(
    name: str,
    number: int,
    status: int,
    words: str,
    whole: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with refusing(RUN / name, number):
        assert run_command(TRAIN, debug=False) == status
    said = " ".join(capsys.readouterr().err.split())
    assert f"Cannot write {RUN / name}: {words}." in said
    assert "Traceback" not in said
    assert "internal error" not in said
    assert not list(tmp_path.rglob(f"{TEMPORARY_PREFIX}*"))
    if name not in ("config.toml", "run.json", "lock"):
        assert "Then go on with: ddpm resume runs/run" in said
    if name in ("config.toml", "run.json"):
        assert not RUN.exists()
    again = ["resume", "run"] if RUN.exists() else TRAIN
    assert run_command(again, debug=False) == 0
    assert final(RUN) == whole


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ddpm_cli", *TRAIN]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), preexec_fn=limit, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stderr
    said = " ".join(done.stderr.split())
    assert "Cannot write runs/run/checkpoints/step-00000002: the file would exceed the largest size allowed." in said
    assert "ulimit -f" in said
    assert "Traceback" not in said


def test_a_grid_that_cannot_be_written_leaves_what_was_there(
    trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained_folder)
    grid = tmp_path / "grid.png"
    grid.write_bytes(b"an older one")
    before = files_below(tmp_path)
    with refusing(grid, errno.ENOSPC):
        status = run_command(["sample", "tiny", "--n=1", "--steps=2", "--sampler=ddim", f"--out={grid}"], debug=False)
    assert status == 1
    assert f"Cannot write {grid}: the disk is full." in " ".join(capsys.readouterr().err.split()).replace("- ", "-")
    assert files_below(tmp_path).keys() == before.keys()
    assert grid.read_bytes() == b"an older one"


@pytest.mark.parametrize(
    ("out", "more"), [("model.safetensors", ()), ("model.pt2", ("--format=torch-export",))], ids=["safetensors", "torch-export"]
)
def test_an_export_is_told_by_the_name_that_was_asked_for(
    out: str,
    more: tuple[str, ...],
    trained_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        status = run_command(["export", str(trained_folder / "runs/tiny"), f"--out={out}", *more], debug=False)
    assert status == 1
    assert f"error: Cannot write {out}: the disk is full." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
