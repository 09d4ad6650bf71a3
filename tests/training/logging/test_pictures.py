"""The pictures of runs and evaluations are written by training and evaluating, whoever listens."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from command import TINY, run_ddpm

from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.errors import OutputError, SaveFailedError
from ddpm_cli.evaluation.evaluate import evaluate_run
from ddpm_cli.evaluation.settings import Measuring
from ddpm_cli.results.events import CheckpointSaved, MetricsLogged, TrainEnded
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.training.logging import pictures
from ddpm_cli.training.logging.pictures import LossPlot
from ddpm_cli.training.train import resume, train

TRAIN = ("train", *TINY, "--steps=4", "--name=run", "--device=cpu", "--set=train.eval_every=2", "--set=train.sample_every=2")
EVALUATE = ("evaluate", "run", "--n=8", "--sampler=ddim", "--steps=2", "--device=cpu", "--metrics=nearest,loss-per-timestep")
OF_TRAINING = {"samples.png", "loss.png", "samples/step-00000002.png", "samples/step-00000004.png"}
OF_EVALUATING = {"evaluations/nearest.png", "evaluations/loss-per-timestep.png"}


@pytest.fixture(scope="module", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def by_command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained and measured by commands."""
    folder = tmp_path_factory.mktemp("by-command")
    for line in (TRAIN, EVALUATE):
        done = run_ddpm(*line, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder / "runs" / "run"


@pytest.fixture
def silent(by_command: Path, tmp_path: Path) -> Path:
    """The same run, trained by a call that nobody listens to."""
    config = load_config(file=by_command / "config.toml").config
    assert train(config, runs=tmp_path, name="run") is not None
    return tmp_path / "run"


def files(run: Path) -> set[str]:
    return {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}


def test_without_a_listener_the_same_pictures_are_written(by_command: Path, silent: Path) -> None:
    assert files(silent) == {name for name in files(by_command) if not name.startswith("evaluations/")}
    asked: Measuring = {"n": 8, "sampler": "ddim", "steps": 2}
    evaluate_run(silent, ["nearest", "loss-per-timestep"], asked, device="cpu")
    assert files(silent) == files(by_command)
    drawn = OF_TRAINING | OF_EVALUATING
    assert {name for name in files(silent) if name.endswith(".png")} == drawn
    for name in drawn:
        assert (silent / name).read_bytes() == (by_command / name).read_bytes(), name


@pytest.mark.parametrize("name", ["samples.png", "loss.png"])
def test_a_picture_that_cannot_be_written_stops_training(name: str, silent: Path) -> None:
    (silent / name).unlink()
    (silent / name).mkdir()
    with pytest.raises(SaveFailedError, match=f"Cannot write .*{name}: .* Training stopped; the checkpoints before are intact"):
        resume(silent, budget={"steps": 8})


def test_a_picture_of_an_evaluation_that_cannot_be_written_is_told(silent: Path) -> None:
    (silent / "evaluations").mkdir()
    (silent / "evaluations" / "loss-per-timestep.png").mkdir()
    with pytest.raises(OutputError, match=r"Cannot write .*loss-per-timestep\.png"):
        evaluate_run(silent, ["loss-per-timestep"], {"n": 8}, device="cpu")
    assert not (silent / "evaluations" / "figures.jsonl").exists()


def row(step: int, loss: float | None = None, held_out: float | None = None) -> dict[str, float | int | None]:
    return {"step": step, "loss": loss, "held_out_loss": held_out}


def test_losses_are_drawn_after_held_out_ones_if_that_is_cheap_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, drawn = [0.0], []

    def draw(log: Path, path: Path) -> bool:
        drawn.append(clock[0])
        clock[0] += 0.5
        return True

    monkeypatch.setattr(pictures, "save_loss_plot", draw)
    monkeypatch.setattr(pictures, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    plot = LossPlot(RunDirectory(tmp_path))
    for second in range(60):
        clock[0] = max(clock[0], float(second))
        plot(MetricsLogged(row(second + 2, 0.5, 0.5 if second % 2 else None)))
    plot(CheckpointSaved(RunDirectory(tmp_path).path, 61))
    assert drawn == [1.0, 27.0, 53.0]  # half a second is 2 % of 25 seconds
    for _ in range(2):
        plot(TrainEnded(SimpleNamespace()))
    assert len(drawn) == 4
