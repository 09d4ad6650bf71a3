"""What trackers are told, and what becomes of training when one of them fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.tracking import GeneralTracker
from command import TINY, Ddpm, assert_refused, environment
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ddpm_cli.results.events import CheckpointSaved, Event, MetricsLogged, Notice, SamplesDrawn
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.training.logging.tracker_kinds import KINDS, Kind
from ddpm_cli.training.logging.trackers import Trackers, sample_grid

ROW = {"step": 4, "epoch": 0.5, "loss": 0.25, "held_out_loss": None}


class Diary(GeneralTracker):
    """A tracker that writes down what it is told, and fails at what it is told to fail at."""

    name = "diary"
    requires_logging_directory = False

    def __init__(self, known: str | None, fails_at: str = "") -> None:
        super().__init__()
        self.known, self.fails_at, self.told = known, fails_at, []

    @property
    def tracker(self) -> list[tuple[Any, ...]]:
        return self.told

    def _note(self, what: str, *details: Any) -> None:
        if what == self.fails_at:
            raise ConnectionError(f"no way to\n{what}")
        self.told.append((what, *details))

    def start(self) -> None:
        sys.stdout.write("welcome to your diary\n")
        self._note("start", self.known)

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self._note("log", step, values)

    def log_picture(self, picture: np.ndarray, step: int) -> None:
        self._note("picture", step, picture.shape)

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._note("config", values)

    def finish(self) -> None:
        self._note("finish")


@pytest.fixture
def diaries(monkeypatch: pytest.MonkeyPatch) -> dict[str, Diary]:
    """Two trackers of the test's own in the places of two others; what they wrote, by name."""
    made: dict[str, Diary] = {}

    def kind(name: str) -> Kind:
        def make(run: RunDirectory, known: str | None, step: int, config: Any) -> Diary:
            made[name] = Diary(known, made[name].fails_at if name in made else "")
            return made[name]

        return Kind(make, lambda _: f"{name}-17", Diary.log_picture, Diary.store_init_configuration)

    monkeypatch.setitem(KINDS, "wandb", kind("wandb"))
    monkeypatch.setitem(KINDS, "mlflow", kind("mlflow"))
    return made


def sampled(path: Path) -> SamplesDrawn:
    return SamplesDrawn(np.zeros((5, 1, 28, 28), np.uint8), 4, path, path)


def run_through(run: RunDirectory, names: tuple[str, ...] = ("wandb", "mlflow")) -> list[Event]:
    notices: list[Event] = []
    listener = Trackers(names, run, notices.append)
    listener(MetricsLogged(ROW))  # not started: told to nobody
    with listener.started({"optimizer.lr": 0.1}, 0):
        listener(MetricsLogged(ROW))
        listener(sampled(run.samples_png))
        listener(CheckpointSaved(run.path, 4))
    listener(MetricsLogged(ROW))
    return notices


def test_each_tracker_is_told_of_settings_metrics_and_samples(tmp_path: Path, diaries: dict[str, Diary]) -> None:
    assert run_through(RunDirectory(tmp_path)) == []
    for name in ("wandb", "mlflow"):
        assert diaries[name].told == [
            ("start", None),
            ("config", {"optimizer.lr": 0.1}),
            ("log", 4, {"epoch": 0.5, "loss": 0.25}),
            ("picture", 4, (2 * 30 + 2, 3 * 30 + 2, 3)),
            ("finish",),
        ]


def test_a_resumed_run_goes_on_where_the_tracker_knows_it(tmp_path: Path, diaries: dict[str, Diary]) -> None:
    run_through(RunDirectory(tmp_path))
    run_through(RunDirectory(tmp_path))
    assert diaries["mlflow"].told[:2] == [("start", "mlflow-17"), ("log", 4, {"epoch": 0.5, "loss": 0.25})]


@pytest.mark.parametrize("content", ["", "[]", '{"wandb": 3, "mlflow": "../../x"}', "[" * 100_000])
def test_a_strangers_names_of_runs_are_not_used(tmp_path: Path, diaries: dict[str, Diary], content: str) -> None:
    (tmp_path / "trackers.json").write_text(content)
    assert run_through(RunDirectory(tmp_path)) == []
    assert [diary.known for diary in diaries.values()] == [None, None]


@pytest.mark.parametrize("fails_at", ["start", "config", "log", "picture", "finish"])
def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(
    tmp_path: Path, diaries: dict[str, Diary], fails_at: str, capsys: pytest.CaptureFixture[str]
) -> None:
    diaries["wandb"] = Diary(None, fails_at)
    notices = run_through(RunDirectory(tmp_path))
    assert [type(notice) for notice in notices] == [Notice]
    assert notices[0].message == (f"The tracker wandb failed and is left out from here on: ConnectionError: no way to {fails_at}")
    assert [entry[0] for entry in diaries["mlflow"].told] == ["start", "config", "log", "picture", "finish"]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "welcome to your diary" in printed.err


def test_an_error_of_training_passes_and_the_trackers_are_finished(tmp_path: Path, diaries: dict[str, Diary]) -> None:
    listener = Trackers(("wandb",), RunDirectory(tmp_path), lambda _: None)
    with pytest.raises(KeyboardInterrupt), listener.started({}, 0):
        raise KeyboardInterrupt
    assert diaries["wandb"].told[-1] == ("finish",)


@pytest.mark.parametrize(("channels", "seen"), [(1, 3), (3, 3), (4, 4), (2, 3), (5, 3)])
def test_a_grid_has_colours_whatever_the_images_have(channels: int, seen: int) -> None:
    grid = sample_grid(np.full((4, channels, 6, 8), 7, np.uint8))
    assert (grid.shape, grid.dtype) == ((2 * 8 + 2, 2 * 10 + 2, seen), np.uint8)
    assert grid[2:8, 2:10, 0].min() == 7


def test_tensorboard_is_told_and_a_resumed_run_goes_on_in_its_folder(ddpm: Ddpm, tmp_path: Path) -> None:
    often = ("--set=train.eval_every=2", "--set=train.sample_every=4", "--set=schedule.timesteps=20")
    done = ddpm("train", *TINY, *often, "--steps=4", "--name=told", "--set=train.trackers=tensorboard")
    assert done.returncode == 0, done.stderr
    done = ddpm("resume", "told", "--steps=6")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs/told"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    log = EventAccumulator(str(run / "tensorboard")).Reload()
    for name in ("loss", "held_out_loss", "lr"):
        points = [(point.step, point.value) for point in log.Scalars(name)]
        expected = [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in rows if name in row]
        assert points == expected
        assert len(points) == 3
    assert [image.step for image in log.Images("samples")] == [4, 6]
    assert b"schedule.timesteps = 20" in log.Tensors("config/text_summary")[0].tensor_proto.string_val[0]


def test_what_a_killed_process_told_tensorboard_after_its_checkpoint_is_replaced(tmp_path: Path) -> None:
    for first, loss in ((0, 0.5), (2, 0.25)):
        listener = Trackers(("tensorboard",), RunDirectory(tmp_path), lambda _: None)
        with listener.started({}, first):
            for step in range(first + 1, 5):
                listener(MetricsLogged({"step": step, "loss": loss}))
    log = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(point.step, point.value) for point in log.Scalars("loss")] == [(1, 0.5), (2, 0.5), (3, 0.25), (4, 0.25)]


def test_a_missing_package_is_refused_with_its_install_line(tmp_path: Path) -> None:
    code = "import sys; sys.modules.update(mlflow=None, trackio=None); from ddpm_cli.cli.app import main; main()"
    asked = "--set=train.trackers=['trackio', 'tensorboard', 'mlflow']"
    command = [sys.executable, "-c", code, "train", *TINY, "--steps=1", asked]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert_refused(done, "trackio, mlflow, which are not installed", "pip install 'ddpm-cli[trackio,mlflow]'")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_tracker_is_refused(ddpm: Ddpm) -> None:
    assert_refused(ddpm("train", '--set=train.trackers=["tensorbord"]', "--dry-run"), "train.trackers", "tensorbord", "tensorboard")
