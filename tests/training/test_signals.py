"""A signal during work that takes long: it is given up, the run is saved at once, and the resumed run does the work after all."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from best_checkpoints import best_checkpoint
from interrupted_runs import tiny, without_times

from ddpm_cli.core.io.temporaries import remove
from ddpm_cli.errors import InterruptedRunError
from ddpm_cli.results.events import CheckpointSaved, Event, SampleProgress, TrainProgress
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.metrics_log import read_rows
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling import parallel as shared_samples
from ddpm_cli.training import measuring
from ddpm_cli.training import metrics as training_metrics
from ddpm_cli.training.train import resume, train

SETS = (
    "train.sample_every=3",
    "train.sampler.steps=20",
    "train.evaluate_every=3",
    "train.evaluate_n=4",
    "train.eval_every=3",
    "train.log_every=1",
    "checkpoint.every=3",
    "checkpoint.best_by=fcd",
)
STEPS = 5


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(tiny(*SETS, steps=STEPS), runs=folder, name="run")
    return folder


def tensors(run: RunDirectory) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(run)
    assert checkpoint.step == STEPS
    return {f"{group}/{k}": v for group in ("model", "ema", "optimizer") for k, v in checkpoint.tensors(group).items()}


def assert_same_run(ours: RunDirectory, whole: RunDirectory) -> None:
    a, b = tensors(ours), tensors(whole)
    assert [name for name in b if not torch.equal(a[name], b[name])] == []
    assert without_times(read_rows(ours.metrics_log)) == without_times(read_rows(whole.metrics_log))
    names = {path.name for path in whole.samples_folder.iterdir()}
    assert {path.name for path in ours.samples_folder.iterdir()} == names
    for name in names:
        assert (ours.samples_folder / name).read_bytes() == (whole.samples_folder / name).read_bytes()
    assert best_checkpoint(ours).step == best_checkpoint(whole).step


@pytest.mark.parametrize(("module", "number"), [(shared_samples, signal.SIGTERM), (training_metrics, signal.SIGUSR1)])
def test_samples_are_given_up_and_drawn_by_the_resumed_run(
    module: Any, number: int, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    draw: Callable[..., Any] = module.generate_samples

    def interrupted(*arguments: Any, on_event: Callable[[Event], None], **named: Any) -> Any:
        def listen(event: Event) -> None:
            assert isinstance(event, SampleProgress)
            seen.append(event.done)
            if event.done == 2:
                os.kill(os.getpid(), number)
            on_event(event)

        return draw(*arguments, on_event=listen, **named)

    with monkeypatch.context() as patch:
        patch.setattr(module, "generate_samples", interrupted)
        with pytest.raises(InterruptedRunError, match="saved at step 3") as stopped:
            train(tiny(*SETS, steps=STEPS), runs=tmp_path, name="run")
    assert stopped.value.exit_status == 128 + number
    assert seen == [1, 2]
    run = RunDirectory(tmp_path / "run")
    assert [row["step"] for row in read_rows(run.metrics_log)] == [1, 2]
    resume(run.path)
    assert_same_run(run, RunDirectory(whole / "run"))


def test_the_held_out_loss_is_given_up_and_a_second_stop_changes_nothing(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = measuring.held_out_losses

    def interrupted(*arguments: Any) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGTERM)
        return measure(*arguments)

    run = RunDirectory(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(measuring, "held_out_losses", interrupted)
        with pytest.raises(InterruptedRunError, match="saved at step 3"):
            train(tiny(*SETS, steps=STEPS), runs=tmp_path, name="run")
        with pytest.raises(InterruptedRunError, match="saved at step 3"):
            resume(run.path)
    resume(run.path)
    assert_same_run(run, RunDirectory(whole / "run"))


def test_a_row_logged_after_such_a_resume_is_not_logged_twice(tmp_path: Path, whole: Path) -> None:
    """The checkpoint of the signal, then a kill after the row and before the next checkpoint."""

    def kill(event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            raise RuntimeError

    def stop(event: Event) -> None:
        if isinstance(event, TrainProgress):
            os.kill(os.getpid(), signal.SIGTERM)

    sets = [*SETS[:-2], "checkpoint.every=100", "checkpoint.best_by=held-out-loss", "checkpoint.keep_best=false"]
    with pytest.raises(InterruptedRunError, match="saved at step 2"):
        train(tiny(*sets, steps=STEPS), runs=tmp_path, name="run", on_event=stop)
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(RuntimeError):
        resume(run.path, on_event=kill)
    assert [row["step"] for row in read_rows(run.metrics_log)] == list(range(1, STEPS + 1))
    remove(run.checkpoints_folder / f"step-{STEPS:08d}")
    resume(run.path)
    assert [row["step"] for row in read_rows(run.metrics_log)] == list(range(1, STEPS + 1))


def test_a_run_without_a_checkpoint_is_resumed_from_its_beginning(tmp_path: Path, whole: Path) -> None:
    def die(event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train(tiny(*SETS, steps=STEPS), runs=tmp_path, name="run", on_event=die)
    run = RunDirectory(tmp_path / "run")
    for path in run.checkpoints_folder.iterdir():
        remove(path)
    notices: list[Event] = []
    resume(run.path, on_event=notices.append)
    assert any("starts from the beginning" in getattr(event, "message", "") for event in notices)
    assert_same_run(run, RunDirectory(whole / "run"))
