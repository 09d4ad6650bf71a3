from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import TINY, Ddpm, assert_refused


def test_evaluate_prints_one_json_object_with_its_terms(ddpm: Ddpm, trained_folder: Path) -> None:
    done = ddpm("evaluate", "--metrics=bits-per-dim,nll-ode", "--n=6", "--steps=5", "--json", cwd=trained_folder)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["step"] == 6
    bound, ode = result["figures"]
    assert [bound["metric"], ode["metric"]] == ["bits-per-dim", "nll-ode"]
    assert bound["value"] == pytest.approx(sum(bound["terms"].values()))
    assert (bound["n"], bound["split"], bound["seed"], bound["data"]) == (6, "test", 0, "fashion-mnist-10k")
    assert bound["details"] == {"variance": "fixed-small", "evaluations": 5, "timesteps": 50, "threshold": "clamp"}
    assert len(bound["sha256"]) == 64
    assert "tiny" in done.stderr


def test_evaluate_prints_figures_for_people(ddpm: Ddpm, trained_folder: Path) -> None:
    done = ddpm("evaluate", "tiny", "--n=2", "--steps=2", "--variance=fixed-large", cwd=trained_folder)
    assert done.returncode == 0, done.stderr
    for words in ("bits-per-dim:", "prior", "decoder", "fixed-large", "2 images of fashion-mnist-10k (test)", "seed 0"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--metrics=fid"], ["no metric 'fid'", "bits-per-dim, nll-ode"]),
        (["--steps=51"], ["2 to 50 steps", "51"]),
        (["--variance=learned-range", "--n=1"], ["did not learn its variance"]),
    ],
)
def test_evaluate_refuses_what_it_cannot_do(ddpm: Ddpm, trained_folder: Path, arguments: list[str], words: list[str]) -> None:
    assert_refused(ddpm("evaluate", *arguments, cwd=trained_folder), *words)


def test_learned_variance_trains_and_is_measured_and_sampled_by_the_command(ddpm: Ddpm, tmp_path: Path) -> None:
    sets = [
        "objective.loss=hybrid",
        "objective.timesteps=loss-aware",
        "schedule.timesteps=20",
        "sample.sampler.variance=learned-range",
    ]
    done = ddpm("train", *TINY, "--steps=3", "--name=hybrid", *(f"--set={item}" for item in sets))
    assert done.returncode == 0, done.stderr
    assert "hybrid loss" in done.stderr + done.stdout
    assert ddpm("sample", "hybrid", "--n=2", "--steps=4").returncode == 0
    figures = json.loads(ddpm("evaluate", "hybrid", "--n=2", "--json").stdout)["figures"]
    assert figures[0]["details"]["variance"] == "learned-range"


def test_edm_trains_and_draws_its_grids_by_the_command(ddpm: Ddpm, tmp_path: Path) -> None:
    sets = ["objective.parameterization=edm", "objective.timesteps=log-normal", "schedule.timesteps=20"]
    done = ddpm("train", *TINY, "--steps=3", "--name=edm", *(f"--set={item}" for item in sets))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "edm" / "samples.png").is_file()
