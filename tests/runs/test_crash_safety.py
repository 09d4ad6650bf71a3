"""What a checkpoint promises when a save fails, is killed, or the power goes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from best_checkpoints import best_checkpoint

from ddpm_cli.core.io.temporaries import TEMPORARY_PREFIX
from ddpm_cli.errors import OutputError
from ddpm_cli.runs import checkpoints
from ddpm_cli.runs.checkpoints import Checkpoint, latest_checkpoint, list_checkpoints, save_checkpoint
from ddpm_cli.runs.directory import create_run, sweep_run
from ddpm_cli.runs.run_directory import RunDirectory

OPERATIONS = ("open", "write", "fsync", "mkdir", "rename", "replace", "unlink", "rmdir", "listdir", "scandir")


def save(run: RunDirectory, step: int, mark: float, *, best: bool = False) -> Path:
    return save_checkpoint(run, step, {"model": {"w": torch.full((50,), mark)}}, {"mark": mark}, "a = 1\n", keep_last=1, best=best)


def mark(checkpoint: Checkpoint) -> float:
    """The one number that all parts of a checkpoint must agree on."""
    value = checkpoint.state["mark"]
    assert checkpoint.tensors("model")["w"].eq(value).all()
    assert isinstance(value, float)
    return value


@contextlib.contextmanager
def failing(first: int, *, for_good: bool) -> Iterator[list[str]]:
    """Make the file operation number `first` (from 0) fail, and with `for_good` all after it, as a kill would.

    Yields:
        The operations that were called, in order.
    """
    called: list[str] = []

    def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            called.append(name)
            number = len(called) - 1
            if number == first or (for_good and number > first):
                if name == "write" and number == first:
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])
                raise OSError(28, "No space left on device")
            return real(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, wrap(name, getattr(os, name)))
        yield called


@pytest.mark.parametrize("for_good", [False, True], ids=["one-fails", "all-after-it-fail"])
@pytest.mark.parametrize("step", [20, 30], ids=["same-step-again", "next-step"])
def test_a_save_that_fails_anywhere_loses_nothing(tmp_path: Path, step: int, for_good: bool) -> None:
    run = create_run(tmp_path, "mine", "quick")
    save(run, 10, 1.0, best=True)
    save(run, 20, 2.0)
    old, new, faults = 2.0, 3.0, 0
    while True:
        with failing(faults, for_good=for_good) as called:
            try:
                save(run, step, new)
            except OutputError as error:
                assert "disk is full" in error.message  # noqa: PT017
            else:
                break
        # Readers that know nothing of the fault, before and after the sweep of a resume.
        assert mark(latest_checkpoint(run)) in (old, new), called
        sweep_run(run)
        assert not list(run.path.rglob(f"{TEMPORARY_PREFIX}*"))
        latest = latest_checkpoint(run)
        assert mark(latest) in (old, new), called
        assert latest.skipped == ()
        assert mark(best_checkpoint(run)) == 1.0
        save(run, 20, 2.0)  # there is room again
        assert mark(latest_checkpoint(run)) == old
        assert sorted(os.listdir(run.checkpoints_folder)) == ["step-00000010", "step-00000020"]
        faults += 1
    assert faults == len(called)
    assert faults > 25
    assert {"open", "write", "fsync", "mkdir", "rename", "unlink", "rmdir"} <= set(called)
    assert mark(latest_checkpoint(run)) == new


def test_only_what_is_synced_is_relied_upon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss of power drops what was not synced: files and folder are before the rename, the rename is before older ones go."""
    run = create_run(tmp_path, "mine", "quick")
    save(run, 10, 1.0)
    path = run.checkpoints_folder / "step-00000020"
    synced: set[int] = set()
    order: list[str] = []
    fsync, rename, write = os.fsync, os.rename, os.write

    def watched_fsync(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)
        if os.fstat(descriptor).st_ino == run.checkpoints_folder.stat().st_ino:
            order.append("folder synced")

    def watched_write(descriptor: int, data: bytes) -> int:
        synced.discard(os.fstat(descriptor).st_ino)
        return write(descriptor, data)

    def watched_rename(source: Path, target: Path) -> None:
        if target == path:
            order.append("in place")
            assert {entry.stat().st_ino for entry in [source, *source.iterdir()]} <= synced
            assert len(list(source.iterdir())) == 4
        else:
            order.append("older one goes")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "write", watched_write)
    monkeypatch.setattr(os, "rename", watched_rename)
    save(run, 20, 2.0)
    assert order == ["in place", "folder synced", "older one goes"]


def test_an_interrupted_replacement_is_found_by_its_second_name(tmp_path: Path) -> None:
    run = create_run(tmp_path, "mine", "quick")
    path = save(run, 20, 2.0)
    os.rename(path, path.with_name(path.name + ".replaced"))
    assert mark(latest_checkpoint(run)) == 2.0
    assert len(list_checkpoints(run)) == 1
    save(run, 20, 3.0)
    assert os.listdir(run.checkpoints_folder) == ["step-00000020"]
    assert mark(latest_checkpoint(run)) == 3.0


def test_a_reader_finds_the_newest_while_another_process_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only one that was listed is removed before it is read."""
    run = create_run(tmp_path, "mine", "quick")
    save(run, 10, 1.0)
    load = checkpoints.load_checkpoint

    def after_a_save(path: Path) -> Checkpoint:
        if path.name == "step-00000010":
            save(run, 20, 2.0)
        return load(path)

    monkeypatch.setattr(checkpoints, "load_checkpoint", after_a_save)
    latest = latest_checkpoint(run)
    assert mark(latest) == 2.0
    assert latest.skipped == ()


KILLS = """
import os, random, sys, time
from pathlib import Path
import torch
from ddpm_cli.runs.checkpoints import latest_checkpoint, list_checkpoints, save_checkpoint
from ddpm_cli.runs.directory import create_run, sweep_run
from ddpm_cli.core.io.temporaries import TEMPORARY_PREFIX
from ddpm_cli.runs.lock import locked
from ddpm_cli.runs.metrics_log import MetricsLog, read_rows

torch.set_num_threads(1)
run = create_run(Path(sys.argv[1]), "mine", "quick")

def train(step, said):
    with locked(run), MetricsLog(run.metrics_log) as log:
        log.truncate_after(step)
        sweep_run(run)
        while True:
            step += 1
            log.append({"step": step, "loss": 1 / step})
            log.sync()
            tensors = {name: {"w": torch.full((20_000,), float(step))} for name in ("model", "ema", "optimizer")}
            for _ in range(1 + step % 2):  # every other step is saved twice
                save_checkpoint(run, step, tensors, {"step": step}, "a = 1", keep_last=1, best=step % 5 == 0)
            os.write(said, b"%d\\n" % step)

pauses = random.Random(0)
step = 0
for _ in range(6):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        train(step, writer)
    os.close(writer)
    said = os.read(reader, 100)  # it has begun
    time.sleep(pauses.uniform(0, 0.1))
    os.kill(child, 9)
    os.waitpid(child, 0)
    while more := os.read(reader, 10_000):
        said = more
    os.close(reader)
    latest = latest_checkpoint(run)
    assert latest.skipped == (), latest.skipped
    assert latest.step >= int(said.split()[-1]), (latest.step, said)
    assert latest.step > step
    assert latest.state["step"] == latest.step
    for name in ("model", "ema", "optimizer"):
        assert latest.tensors(name)["w"].eq(latest.step).all()
    step = latest.step
with locked(run), MetricsLog(run.metrics_log) as log:
    log.truncate_after(step)
    sweep_run(run)
assert [row["step"] for row in read_rows(run.metrics_log)] == list(range(1, step + 1))
assert not list(run.path.rglob(TEMPORARY_PREFIX + "*"))
print("survived", step)
"""


def test_kills_at_any_instant_lose_nothing_that_was_said_to_be_saved(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLS, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("survived")
