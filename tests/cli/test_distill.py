"""`ddpm distill`, and the commands that take what it makes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import Ddpm, assert_refused, files_below

import ddpm_cli
from ddpm_cli.runs.directory import read_info
from ddpm_cli.runs.lock import locked
from ddpm_cli.runs.record import read_config
from ddpm_cli.runs.run_directory import RunDirectory


@pytest.fixture
def runs(trained_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained_folder / "runs", tmp_path / "runs")
    return tmp_path / "runs"


def test_it_makes_a_run_that_can_do_what_every_run_can(ddpm_here: Ddpm, runs: Path) -> None:
    done = ddpm_here("distill", "tiny", "--steps=2", "--device=cpu", "--name=fast", "--json")
    assert done.returncode == 0, done.stderr
    assert "runs/tiny/checkpoints/step-00000006: EMA weights of step 6." in " ".join(done.stderr.split())
    told = json.loads(done.stdout)
    assert (told["run"], told["step"]) == ("runs/fast", 2)
    assert told["held_out_loss"] > 0
    assert read_info(RunDirectory(runs / "fast"))["start"]["step"] == 6
    assert read_config(RunDirectory(runs / "fast")).sample.sampler.kind == "consistency"
    assert (runs / "fast" / "samples.png").is_file()

    done = ddpm_here("resume", "fast", "--steps=3", "--device=cpu", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["step"] == 3
    done = ddpm_here("sample", "fast", "--n=2", "--device=cpu", "--json")
    assert done.returncode == 0, done.stderr
    drawn = json.loads(done.stdout)["sampler"]
    assert (drawn["kind"], drawn["steps"], drawn["evaluations"]) == ("consistency", 2, 2)
    for steps in (1, 4):
        done = ddpm_here("sample", "fast", "--n=2", f"--steps={steps}", "--device=cpu", "--json")
        assert json.loads(done.stdout)["sampler"]["evaluations"] == steps
    done = ddpm_here("export", "fast", "--format=torch-export", "--out=fast.pt2")
    assert done.returncode == 0, done.stderr
    assert_refused(ddpm_here("tune-sampler", "fast", "--steps=5"), "was distilled", "Tune the run that it was distilled from")
    done = ddpm_here("info", "fast")
    flat = " ".join(done.stdout.split())
    assert "consistency" in flat
    assert re.search(r"starts from: ?.*tiny/checkpoints/step-00000006", flat)


def test_of_a_run_that_still_trains_it_takes_the_newest_checkpoint(ddpm_here: Ddpm, runs: Path) -> None:
    with locked(RunDirectory(runs / "tiny")):
        done = ddpm_here("distill", "tiny", "--steps=1", "--device=cpu", "--name=fast")
    assert done.returncode == 0, done.stderr
    assert "runs/tiny/checkpoints/step-00000006" in " ".join(done.stderr.split())


def test_from_python_it_is_the_same(ddpm_here: Ddpm, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ddpm_here("distill", "tiny", "--steps=2", "--device=cpu", "--name=one").returncode == 0
    monkeypatch.chdir(runs.parent)
    run = ddpm_cli.distill("tiny", steps=2, device="cpu", name="other", progress=False)
    ours, theirs = (ddpm_cli.load(name, device="cpu").sample(3, progress=False) for name in (run, "one"))
    assert np.array_equal(ours, theirs)
    with pytest.raises(ddpm_cli.DdpmError, match="guidance"):
        ddpm_cli.distill("tiny", guidance=2.0, steps=2, name="guided", progress=False)


def test_an_exported_file_is_a_teacher_too(ddpm_here: Ddpm, runs: Path) -> None:
    assert ddpm_here("export", "tiny", "--out=model.safetensors").returncode == 0
    done = ddpm_here("distill", "model.safetensors", "--steps=1", "--device=cpu", "--name=fast")
    assert done.returncode == 0, done.stderr
    named = read_info(RunDirectory(runs / "fast"))["start"]
    assert (Path(named["origin"]).name, named["step"], len(named["sha256"])) == ("model.safetensors", 6, 64)


def test_what_cannot_be_is_refused_and_nothing_is_written(ddpm_here: Ddpm, runs: Path) -> None:
    before = files_below(runs)
    assert_refused(ddpm_here("distill", "tiny", "--minutes=0", "--name=fast"), "--minutes", "greater than 0")
    assert_refused(ddpm_here("distill", "tiny", "--guidance=2", "--name=fast"), "guidance needs a teacher", "classes")
    assert_refused(ddpm_here("distill", "tiny", "--set=schedule=cosine", "--name=fast"), '"cosine", not "linear"')
    assert_refused(ddpm_here("distill", "tiny", "--steps=2", "--name=tiny"), "already a run")
    assert files_below(runs) == before
    assert ddpm_here("distill", "tiny", "--steps=1", "--device=cpu", "--name=fast").returncode == 0
    refused = ddpm_here("distill", "fast", "--name=faster")
    assert_refused(refused, "runs/fast/checkpoints/step-00000001 is a consistency model already", "distil its teacher again")
    assert not (runs / "faster").exists()
