"""`ddpm sweep` as a person meets it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import Ddpm, assert_refused, environment
from tiny_configs import tiny_base

import ddpm_cli.experiments.sweep as sweeping
from ddpm_cli.cli.app import run
from ddpm_cli.errors import DivergedError

CHANGES = {
    "data.limit": 64,
    "schedule.timesteps": 20,
    "train.steps": 10,
    "train.log_every": 1,
    "sample.sampler.kind": "ddim",
    "sample.sampler.steps": 2,
    "checkpoint.every": 4,
}
SWEEP = f"""
seeds = [0, 1]
{tiny_base(CHANGES)}
[grid]
optimizer.lr = [1e-4, 1e-3]
[evaluate]
metrics = ["fcd"]
n = 80
[evaluate.grid]
sample.sampler.steps = [2, 4]
"""


def kill_at(folder: Path, log: Path, text: str) -> None:
    """Start the sweep and kill it as soon as `log` holds the text."""
    command = [sys.executable, "-m", "ddpm_cli", "sweep", "rates.toml", "--no-grids"]
    process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not (log.exists() and text in log.read_text()):
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=60)


def test_a_sweep_is_listed_killed_gone_on_with_and_compared(ddpm: Ddpm, tmp_path: Path) -> None:
    (tmp_path / "rates.toml").write_text(SWEEP)
    listed = ddpm("sweep", "rates.toml", "--dry-run", "--json")
    assert listed.returncode == 0, listed.stderr
    plan = json.loads(listed.stdout)
    assert [run["name"] for run in plan["runs"]] == ["lr-0.0001-s0", "lr-0.001-s0", "lr-0.0001-s1", "lr-0.001-s1"]
    assert plan["runs"][1] | {"seconds": 0} == {
        "name": "lr-0.001-s0",
        "arm": "lr-0.001",
        "seed": 0,
        "settings": {"optimizer.lr": 0.001},
        "standing": "new",
        "seconds": 0,
    }
    assert plan["seconds"] == pytest.approx(sum(run["seconds"] for run in plan["runs"]))
    assert plan["evaluations"] == [{"sample.sampler.steps": 2}, {"sample.sampler.steps": 4}]
    assert [path.name for path in tmp_path.iterdir()] == ["rates.toml"]

    folder = tmp_path / "runs" / "rates"
    kill_at(tmp_path, folder / "lr-0.001-s0" / "metrics.jsonl", '"step": 6,')
    first = (folder / "lr-0.0001-s0" / "evaluations" / "figures.jsonl").read_bytes()

    done = ddpm("sweep", "rates.toml", "--no-grids", "--json")
    assert done.returncode == 0, done.stderr
    assert "run 1 of 4: lr-0.0001-s0, trained already" in done.stderr
    assert "run 2 of 4: lr-0.001-s0, training goes on" in done.stderr
    assert "run 4 of 4: lr-0.001-s1, training" in done.stderr
    assert (folder / "lr-0.0001-s0" / "evaluations" / "figures.jsonl").read_bytes() == first
    result = json.loads(done.stdout)
    assert all(run["finished"] and run["step"] == 10 for run in result["runs"])
    assert result["differences"] == {"optimizer.lr": {"lr-0.0001": 0.0001, "lr-0.001": 0.001}}
    measured = [(measure["metric"], measure["conditions"].get("steps")) for measure in result["measures"]]
    assert measured[-2:] == [("fcd", 2), ("fcd", 4)]
    assert all(len(arm["values"]) == 2 for measure in result["measures"] for arm in measure["arms"])
    assert all(measure["arms"][1]["verdict"]["p"] is not None for measure in result["measures"])
    files = {path.name for path in folder.iterdir() if path.suffix}
    assert files >= {"comparison.md", "comparison.json", "curves.png", "metrics.png", "sweep.json"}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.toml", None, ["none.toml: no such file"]),
        ("rates.toml", SWEEP, ["no/such", "its folder does not exist"]),
        ("my sweep.toml", "", ["'my sweep' cannot be the name of a run"]),
        ("bad.toml", "[grid]\nschedule = []\noptimizer.lrr = [1]", ["2 faults", "schedule", 'the nearest is "lr"']),
    ],
)
def test_bad_files_are_refused(ddpm: Ddpm, tmp_path: Path, name: str, text: str | None, words: list[str]) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    assert_refused(ddpm("sweep", name, "--out=no/such"), *words)
    assert [path.name for path in tmp_path.iterdir()] == [name] * (text is not None)


def test_a_run_that_fails_is_named_and_the_status_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first arm diverges; the other one is trained all the same, and is what there is to compare with."""
    monkeypatch.chdir(tmp_path)
    Path("rates.toml").write_text(tiny_base(CHANGES | {"train.steps": 14}) + "[grid]\noptimizer.lr = [1e30, 1e-3]\n")
    assert run(["sweep", "rates.toml", "--no-grids", "--json"], debug=False) == 1
    told = capsys.readouterr()
    assert "1 of the 2 runs of the sweep failed." in told.err
    assert "lr-1e30-s0: Training diverged" in told.err
    assert json.loads(told.out)["baseline"] == "lr-0.001"


ONE = f"""
{tiny_base(CHANGES)}
[evaluate]
metrics = ["loss-per-timestep"]
n = 8
[evaluate.grid]
sample.sampler.steps = [2, 4]
"""


def test_a_sweep_of_one_run_ends_well_and_says_why_nothing_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.toml").write_text(ONE)
    assert run(["sweep", "one.toml"], debug=False) == 0
    told = capsys.readouterr()
    where = Path("runs", "one", "base-s0")
    said = f"One run tells nothing about others: no comparison is written. What was measured of it lies in {where}."
    assert told.err.count(said) == 1
    assert told.out.startswith("One run, base-s0: there is nothing to compare it with.\n")
    assert {path.name for path in where.parent.iterdir()} & {"comparison.md", "comparison.json", "curves.png"} == set()
    assert run(["sweep", "one.toml", "--json"], debug=False) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in facts["runs"]] == ["base-s0"]
    assert {apart["metric"] for apart in facts["apart"]} == {"loss-per-timestep"}


@pytest.mark.parametrize("leaves_a_folder", [True, False])
def test_one_run_that_fails_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], leaves_a_folder: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if leaves_a_folder:
        Path("one.toml").write_text(tiny_base(CHANGES | {"train.steps": 14, "optimizer.lr": 1e30}))
        reason = "Training diverged"
    else:
        Path("one.toml").write_text(tiny_base(CHANGES))
        reason = "Nothing was finite."

        def fail(config: object, **rest: object) -> None:
            raise DivergedError(reason)

        monkeypatch.setattr(sweeping, "train", fail)
    assert run(["sweep", "one.toml", "--no-grids"], debug=False) == 1
    told = capsys.readouterr().err
    assert "1 of the 1 runs of the sweep failed." in told
    assert f"base-s0: {reason}" in told
    assert told.count("error:") == 1
