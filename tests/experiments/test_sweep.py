"""Sweeps: made, stopped, gone on with, and compared, in this process."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from command import files_below
from tiny_configs import tiny_base

import ddpm_cli.evaluation.evaluate as evaluating
import ddpm_cli.experiments.sweep as sweeping
from ddpm_cli.data.sources import fashion_mnist
from ddpm_cli.errors import ConfigError, DivergedError, InterruptedRunError, RequestError, RunError
from ddpm_cli.experiments.compare import compare
from ddpm_cli.experiments.sweep import run_sweep
from ddpm_cli.experiments.sweep_file import load_sweep
from ddpm_cli.experiments.sweep_plan import plan_sweep
from ddpm_cli.render.terminal.compare_tables import lead
from ddpm_cli.results.comparison import Comparison
from ddpm_cli.results.events import Event, MetricsLogged, SweepProgress, TrainSummary

CHANGES = {"schedule.timesteps": 20, "train.steps": 4, "train.eval_every": 2, "checkpoint.every": 2}
BASE = tiny_base(CHANGES)
GRID = "[grid]\noptimizer.lr = [1e-3]"


@pytest.fixture(autouse=True)
def images_are_unpacked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "load_fashion_mnist_10k", unpacked)


unpacked = cache(fashion_mnist.load_fashion_mnist_10k)


def sweep_in(folder: Path, text: str, listen=lambda event: None) -> dict[str, str]:
    file = folder / "tiny.toml"
    file.write_text(text)
    return run_sweep(plan_sweep(load_sweep(file), runs=folder / "runs"), on_event=listen)


def compared(folder: Path) -> Comparison:
    return compare([Path("tiny")], runs=folder / "runs")


def standings(folder: Path) -> dict[str, str]:
    plan = plan_sweep(load_sweep(folder / "tiny.toml"), runs=folder / "runs").plan
    return {run.name: run.standing for run in plan.runs}


def test_two_arms_that_differ_only_in_seed_are_not_different(tmp_path: Path) -> None:
    sweep_in(tmp_path, BASE + "[arms.a]\ntrain.seed = 1\n[arms.b]\ntrain.seed = 2")
    comparison = compared(tmp_path)
    assert comparison.only_seed
    assert [run.name for run in comparison.runs] == ["a-s1", "b-s2"]
    assert comparison.runs[0].last("held_out_loss") != comparison.runs[1].last("held_out_loss")
    assert lead(comparison)[0].startswith("The 2 runs differ only in train.seed: not different; their spread is the noise")


def test_stopped_anywhere_and_run_again_gives_the_same_comparison(tmp_path: Path) -> None:
    text = BASE + "[grid]\nobjective.parameterization = ['eps', 'v']\n[evaluate]\nmetrics = ['bits-per-dim']\nn = 2"
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    sweep_in(whole, text)

    def stop_in_the_second(event: Event) -> None:
        if isinstance(event, SweepProgress) and event.number == 2:
            seen.append(event.run)
        if seen and isinstance(event, MetricsLogged) and event.row["step"] == 4:
            raise KeyboardInterrupt

    seen: list[str] = []
    with pytest.raises(InterruptedRunError) as error:
        sweep_in(stopped, text, stop_in_the_second)
    assert error.value.exit_status == 130
    assert f"Go on with the same command: ddpm sweep {stopped / 'tiny.toml'}" in error.value.remedy
    assert standings(stopped) == {"eps-s0": "finished", "v-s0": "begun"}
    before = files_below(stopped / "runs" / "tiny" / "eps-s0")
    figures = (stopped / "runs" / "tiny" / "eps-s0" / "evaluations" / "figures.jsonl").read_text()
    sweep_in(stopped, text)
    after = files_below(stopped / "runs" / "tiny" / "eps-s0")
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} <= {"evaluations/lock", "evaluations"}
    assert (stopped / "runs" / "tiny" / "eps-s0" / "evaluations" / "figures.jsonl").read_text() == figures
    assert compared(stopped).measures == compared(whole).measures
    assert {measure.metric for measure in compared(whole).measures} >= {"held-out loss", "bits-per-dim"}


def test_each_repeat_of_an_arm_is_measured_with_seeds_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The luck of one set of samples must be in the spread."""
    seeds = []
    monkeypatch.setattr(evaluating, "evaluate", lambda trained, data, metrics, settings, **rest: seeds.append(settings.seed) or [])
    text = "seeds = [5, 3]\n" + tiny_base(CHANGES | {"train.steps": 2}) + "[arms.a]\n"
    sweep_in(tmp_path, text + "[evaluate]\nmetrics = ['fcd']\nn = 3\nrepeats = 2\nseed = 7\n")
    assert seeds == [7, 13]


def test_a_run_stopped_before_its_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    text = tiny_base(CHANGES | {"checkpoint.every": 100}) + GRID

    def stop(event: Event) -> None:
        if isinstance(event, MetricsLogged):
            raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError):
        sweep_in(tmp_path, text, stop)
    run = tmp_path / "runs" / "tiny" / "lr-0.001-s0"
    assert standings(tmp_path) == {run.name: "new"}
    (run / "thesis.txt").write_text("the only copy")
    with pytest.raises(RunError, match=r"holds thesis\.txt, which is no part of a run"):
        sweep_in(tmp_path, text)
    (run / "thesis.txt").unlink()
    sweep_in(tmp_path, text)
    assert standings(tmp_path) == {run.name: "finished"}


def test_new_values_are_added_and_changed_ones_refused(tmp_path: Path) -> None:
    sweep_in(tmp_path, BASE + GRID)
    before = files_below(tmp_path / "runs")
    with pytest.raises(RunError, match=r"lr-0\.001-s0 was made with another config than the file asks for now: \S+ = \S+ \(was"):
        sweep_in(tmp_path, tiny_base(CHANGES | {"model.base_channels": 16}) + GRID)
    assert files_below(tmp_path / "runs") == before
    (tmp_path / "tiny.toml").write_text("seeds = [0, 1]\n" + BASE + GRID.replace("[1e-3]", "[1e-3, 2e-3]"))
    assert standings(tmp_path) == {"lr-0.001-s0": "finished", "lr-0.002-s0": "new", "lr-0.001-s1": "new", "lr-0.002-s1": "new"}


def test_a_run_that_diverges_is_recorded_and_the_sweep_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []
    real = sweeping.train

    def diverging(config, *, name: str, **rest) -> TrainSummary:
        trained.append(name)
        if name == "lr-0.5-s0":
            raise DivergedError("The gradients were not finite.")
        return real(config, name=name, **rest)

    monkeypatch.setattr(sweeping, "train", diverging)
    text = BASE + "[grid]\noptimizer.lr = [0.5, 1e-3]"
    assert sweep_in(tmp_path, text) == {"lr-0.5-s0": "The gradients were not finite."}
    assert trained == ["lr-0.5-s0", "lr-0.001-s0"]
    state = json.loads((tmp_path / "runs" / "tiny" / "sweep.json").read_text())
    assert state == {"failed": {"lr-0.5-s0": "The gradients were not finite."}}


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("[grid]\nmodel.attention_resolutions = [[], [9]]", ConfigError, "9"),
        ("[evaluate]\nmetrics = ['fcb']", RequestError, "no metric 'fcb'"),
        ("[base.data]\nkind = 'fashion-mnist'\nroot = 'nowhere'", RequestError, "nowhere"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is(tmp_path: Path, text: str, error: type, words: str) -> None:
    base = BASE.replace('"data.kind" = "fashion-mnist-10k"\n', "") if "base.data" in text else BASE
    with pytest.raises(error, match=words):
        sweep_in(tmp_path, base + text)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


def test_a_folder_that_is_a_run_is_no_sweep(tmp_path: Path) -> None:
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "run.json").write_text("{}")
    with pytest.raises(RunError, match="is a run, not the folder of a sweep"):
        sweep_in(tmp_path, BASE)
