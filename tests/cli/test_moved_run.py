"""A run whose folder is renamed, moved, deleted or replaced while it trains: told, saved where it went, nothing else touched."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command import TINY, files_below
from safetensors.numpy import load_file

from ddpm_cli.cli.app import run as run_command
from ddpm_cli.runs.checkpoints import latest_checkpoint, list_checkpoints
from ddpm_cli.runs.directory import create_run
from ddpm_cli.runs.metrics_log import read_rows
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.training.loop import TrainingLoop

STEPS = 6
AT = 3
TRAIN = (*TINY, "--set=train.log_every=1", "--set=checkpoint.every=2", "--set=train.sample_every=3", "--set=data.limit=24")
RUN = Path("runs/run")


def at_step(patch: pytest.MonkeyPatch, step: int, act: Callable[[], object]) -> None:
    """Do something to the disk right after a step of training."""
    take_step = TrainingLoop.take_step

    def call(loop: TrainingLoop) -> None:
        take_step(loop)
        if loop.trainer.step == step:
            act()

    patch.setattr(TrainingLoop, "take_step", call)


def train(*more: str) -> int:
    return run_command(["train", *TRAIN, "--name=run", f"--steps={STEPS}", *more], debug=False)


def final(run: Path) -> dict[str, bytes]:
    newest = latest_checkpoint(RunDirectory(run))
    assert newest.step == STEPS
    assert [row["step"] for row in read_rows(run / "metrics.jsonl")] == list(range(1, STEPS + 1))
    return {
        f"{file.stem}/{key}": value.tobytes()
        for file in newest.path.glob("*.safetensors")
        for key, value in load_file(file).items()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        assert train() == 0
        return final(RUN)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def another_run() -> None:
    """What another `ddpm train --name run` makes first, of whose files each is one that ours writes too."""
    RUN.rename("runs/mine")
    other = create_run(Path("runs"), "run", "run")
    shutil.copy("runs/mine/run.json", other.info_path)
    for name in ("config.toml", "metrics.jsonl", "incidents.jsonl", "metrics.json", "loss.png"):
        (other.path / name).write_text("another's")
    for step in range(1, 8):
        (other.checkpoints_folder / f"step-{step:08d}").mkdir()


def moved_into(folder: str) -> None:
    Path(folder).mkdir()
    RUN.rename(f"{folder}/run")


def replaced_by_a_link() -> None:
    RUN.rename("runs/mine")
    Path("elsewhere").mkdir()
    RUN.symlink_to(Path("elsewhere").absolute())


CASES: dict[str, tuple[Callable[[], object], str, str]] = {  # what is done, where the folder went, what is seen at its path
    "renamed": (lambda: RUN.rename("runs/mine"), "runs/mine", "Nothing lies at runs/run now."),
    "moved": (lambda: moved_into("kept"), "kept/run", "Nothing lies at runs/run now."),
    "parent": (lambda: Path("runs").rename("old"), "old/run", "Nothing lies at runs/run now."),
    "replaced": (another_run, "runs/mine", "Another run (created 2"),
    "link": (replaced_by_a_link, "runs/mine", "A link to "),
}


@pytest.mark.parametrize(
    ("command", "case"), [("train", "renamed"), ("train", "moved"), ("resume", "parent"), ("resume", "replaced"), ("train", "link")]
)
def test_it_is_told_and_saved_and_gone_on_with(
    case: str,
    command: str,
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    act, went, seen = CASES[case]
    if command == "resume":
        assert train("--steps=2") == 0
    at_the_old_path: dict[str, int] = {}

    def move() -> None:
        act()
        at_the_old_path.update(files_below(RUN) if RUN.exists() else {})

    with monkeypatch.context() as patch:
        at_step(patch, AT, move)
        status = train() if command == "train" else run_command(["resume", "run", f"--steps={STEPS}"], debug=False)
    told = " ".join(capsys.readouterr().err.split())
    assert status == 1, told
    assert "While it trained, the folder of the run runs/run (created 2" in told
    assert f"was moved to {tmp_path / went}. {seen}" in told
    assert f"saved step {AT} there. Go on with: ddpm resume {tmp_path / went}" in told
    assert "Traceback" not in told
    assert (files_below(RUN) if RUN.exists() else {}) == at_the_old_path
    assert latest_checkpoint(RunDirectory(Path(went))).step == AT
    if case in ("renamed", "replaced"):
        assert run_command(["resume", went], debug=False) == 0
        assert final(Path(went)) == whole


def test_a_deleted_one_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, AT, lambda: shutil.rmtree(RUN))
        assert train() == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "was deleted. Nothing lies at runs/run now. Training stopped." in told
    assert "start the run again" in told
    assert not RUN.exists()


def test_one_that_moves_while_a_checkpoint_is_written(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from ddpm_cli.runs import checkpoints

    write = checkpoints.write_files

    def move_and_write(*arguments: object) -> None:
        if RUN.exists() and not Path("runs/mine").exists():
            another_run()
        write(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_files", move_and_write)
        assert train() == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "was moved to" in told
    assert "Another run (created 2" in told
    assert len(list(Path("runs/run/checkpoints").iterdir())) == 7
    assert list_checkpoints(RunDirectory(Path("runs/mine"))) == []


def test_a_path_that_is_relative_follows_a_folder_above_it(
    whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    with monkeypatch.context() as patch:
        at_step(patch, AT, lambda: (tmp_path / "a").rename(tmp_path / "b"))
        assert train() == 0
    assert final(tmp_path / "b/runs/run") == whole
