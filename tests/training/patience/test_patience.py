"""Runs that `train.patience` stops: how they end, go on, and are told of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from interrupted_runs import stop_at, tiny, without_times

from ddpm_cli.config.schema.config import Config
from ddpm_cli.errors import ConfigError, InterruptedRunError, RequestError
from ddpm_cli.experiments.run_info import model_info
from ddpm_cli.experiments.run_list import describe_run
from ddpm_cli.render.terminal.training import summary_facts
from ddpm_cli.results.events import Event, Notice, TrainSummary
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.metrics_log import read_rows
from ddpm_cli.runs.record import read_run
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.training.train import plan_training, resume, train

pytestmark = pytest.mark.usefixtures("cache_of_its_own")
STILL = ("optimizer.lr=1e-12", "model.dropout=0", "train.eval_every=2", "train.patience=5", "checkpoint.every=7")
"""Nothing is learned, so that the fifth evaluation, after 10 steps, stops the run."""


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> TrainSummary:
    return trained(tiny(*STILL, steps=30), tmp_path_factory.mktemp("stopped"))


def trained(config: Config, runs: Path) -> TrainSummary:
    summary = train(config, runs=runs, name="run")
    assert isinstance(summary, TrainSummary)
    return summary


def notices(config: Config) -> list[str]:
    told: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Notice):
            told.append(event.message)

    plan_training(config, on_event=listen)
    return told


def test_a_run_that_gains_nothing_stops_says_so_and_counts_as_ended(stopped: TrainSummary) -> None:
    run = RunDirectory(stopped.run)
    assert stopped.step == 10
    assert stopped.no_longer_paid is not None
    assert (stopped.no_longer_paid.figure, stopped.no_longer_paid.evaluations) == ("held_out_loss", 5)
    assert stopped.no_longer_paid.trend.p > 0.2
    assert "no longer pays" in summary_facts(stopped)["stopped"]
    last = read_rows(run.metrics_log)[-1]
    assert last["step"] == 10
    assert last["no_longer_pays"] == 1
    assert (run.samples_folder / "step-00000010.png").is_file()  # all that the last step of any run has
    assert latest_checkpoint(run).step == 10
    assert describe_run(run, "run").state == "no longer paid"
    assert model_info(run.path).row == describe_run(run, str(run.path.name))
    assert read_run(run).run.finished
    assert "no_longer_pays" not in read_run(run).run.curves
    assert resume(run.path) is None


def test_a_stopped_run_goes_on_for_a_new_budget_or_without_patience(stopped: TrainSummary, tmp_path: Path) -> None:
    again = trained(tiny(*STILL, steps=30), tmp_path)
    assert again.step == 10
    new = resume(again.run, budget={"steps": 30})  # the budget of before, but asked for
    assert new is not None
    assert new.step == 20  # five evaluations more
    whole = resume(again.run, sets=["train.patience=none"])
    assert whole is not None
    assert (whole.step, whole.no_longer_paid) == (30, None)
    assert describe_run(RunDirectory(again.run), "run").state == "finished"


@pytest.mark.parametrize("step", [3, 8, 10])
def test_an_interrupted_run_stops_at_the_same_step_with_the_same_bits(step: int, stopped: TrainSummary, tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        train(tiny(*STILL, steps=30), runs=tmp_path, name="run", on_event=stop_at(step))
    summary = resume(tmp_path / "run")
    assert summary is not None
    assert summary.no_longer_paid == stopped.no_longer_paid
    ours, whole = latest_checkpoint(RunDirectory(tmp_path / "run")), latest_checkpoint(RunDirectory(stopped.run))
    assert ours.state["patience"] == whole.state["patience"] == {"evaluations": 5, "stopped": True}
    for group in ("ema", "patience"):
        assert all(torch.equal(value, whole.tensors(group)[name]) for name, value in ours.tensors(group).items())
    rows = [without_times(read_rows(RunDirectory(run).metrics_log)) for run in (tmp_path / "run", stopped.run)]
    assert rows[0] == rows[1]


def test_a_run_that_improves_is_left_alone(tmp_path: Path) -> None:
    summary = trained(tiny("optimizer.lr=1e-3", "train.eval_every=4", "train.patience=5", steps=48), tmp_path)
    assert (summary.step, summary.no_longer_paid) == (48, None)
    kept = latest_checkpoint(RunDirectory(summary.run)).tensors("patience")["evaluations"]
    assert kept.shape == (5, 16)
    logged = [row["held_out_loss"] for row in read_rows(RunDirectory(summary.run).metrics_log) if row["step"] % 4 == 0]
    assert np.allclose(kept.mean(1), logged[-5:], rtol=1e-12)


def test_a_metric_is_looked_at_where_one_is_measured(tmp_path: Path) -> None:
    sets = ("train.evaluate_every=2", "train.evaluate_n=4", "train.eval_every=100")
    summary = trained(tiny(*STILL, *sets, steps=30), tmp_path)
    assert summary.no_longer_paid is not None
    assert (summary.no_longer_paid.figure, summary.step) == ("fcd", 10)
    assert read_rows(RunDirectory(summary.run).metrics_log)[-1]["held_out_loss"] is not None  # as at the end of any run


def test_patience_that_has_nothing_to_look_at_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "few.npz", images=np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8))
    data = ("data.kind=arrays", f"data.path={tmp_path / 'few.npz'}", "data.held_out=0", "data.limit=20")
    with pytest.raises(RequestError, match="has nothing to look at"):
        train(tiny(*data, *STILL), runs=tmp_path / "runs", name="run")
    assert not (tmp_path / "runs").exists()


def test_patience_does_not_look_at_a_loss_that_autoguidance_raises(tmp_path: Path) -> None:
    led = tiny("train.patience=5", "objective.autoguidance.scale=2")
    with pytest.raises(RequestError, match="rises when objective"):
        train(led, runs=tmp_path, name="run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", ["0", "-3", "4", "1.5", "soon"])
def test_a_patience_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.patience"):
        tiny(f"train.patience={value}")


def test_what_hinders_patience_is_told_before_training() -> None:
    falling, short = notices(tiny(*STILL, "optimizer.decay=linear", steps=30)), notices(tiny(*STILL, steps=9))
    assert any("lowers the learning rate until the end of the budget" in message for message in falling)
    assert any("train.patience = 5 will never stop this run: 9 steps have 4 evaluations" in message for message in short)
    assert not any("train.patience" in message for message in notices(tiny(*STILL, steps=30)))
