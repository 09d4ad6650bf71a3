"""Guidance by an earlier checkpoint or another run, as a person asks for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import TINY, Ddpm, assert_refused, files_below, run_ddpm
from picture_files import pixels
from trained_models import trained_model

import ddpm_cli
from ddpm_cli.runs.model_file import save_model_file
from ddpm_cli.sampling.generate import all_weights, model_facts

GUIDED = ("--guide-with=@2", "--guide-scale=3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`runs/tiny` with checkpoints of the steps 2, 4 and 6."""
    folder = tmp_path_factory.mktemp("guided")
    kept = ("--set=checkpoint.every=2", "--set=checkpoint.keep_last=3", "--set=optimizer.lr=0.05")
    done = run_ddpm("train", *TINY, *kept, "--steps=6", "--name=tiny", "--set=schedule.timesteps=50", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def drawn(ddpm: Ddpm, folder: Path, *arguments: str) -> np.ndarray:
    done = ddpm("sample", "--n=2", "--steps=3", "--sampler=ddim", "--no-preview", "--out=x.png", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return pixels(folder / "x.png")


def exported(path: Path, *sets: str, shape: tuple[int, int, int] = (1, 28, 28)) -> str:
    model = trained_model(*sets, shape=shape)
    save_model_file(path, all_weights(model), model_facts(model, half=False))
    return str(path)


def test_scale_1_draws_what_no_guide_draws_and_another_scale_something_else(ddpm_here: Ddpm, folder: Path) -> None:
    plain = drawn(ddpm_here, folder)
    assert np.array_equal(drawn(ddpm_here, folder, "--guide-with=@2", "--guide-scale=1"), plain)
    guided = drawn(ddpm_here, folder, *GUIDED)
    assert not np.array_equal(guided, plain)
    assert np.array_equal(drawn(ddpm_here, folder, "--guide-with=tiny@2", "--guide-scale=3"), guided)
    assert np.array_equal(drawn(ddpm_here, folder, *GUIDED, "--set=sample.guide.interval=[1000,2000]"), plain)


def test_python_draws_the_same(ddpm_here: Ddpm, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = drawn(ddpm_here, folder, *GUIDED)
    monkeypatch.chdir(folder)
    model = ddpm_cli.load("tiny", device="cpu")
    images = model.sample(2, sampler="ddim", steps=3, guide_with="@2", guide_scale=3.0, progress=False)
    assert np.array_equal(images[0, :, :, 0], wanted[2:30, 2:30])
    moments = model.trajectory(2, sampler="ddim", steps=3, guide_with="@2", guide_scale=3.0)
    assert np.array_equal(moments[-1], images)
    way = [model.interpolate(0, 1, n=2, steps=3, guide_with=guide, progress=False) for guide in (None, "@2")]
    assert not np.array_equal(*way)


def test_a_figure_with_a_guide_is_none_without(ddpm_here: Ddpm, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(folder / "cache"))
    lines = [(), GUIDED, ("--guide-with=@4", "--guide-scale=3"), GUIDED]
    found = []
    for line in lines:
        done = ddpm_here("evaluate", "tiny", "--n=70", "--sampler=ddim", "--steps=2", "--json", *line, cwd=folder)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout)["figures"][0])
        assert ("measured before" in done.stderr) == (len(found) == 4)
    assert len({figure["value"] for figure in found}) == 3
    assert "guide" not in found[0]["details"]
    assert [found[1]["details"][key] for key in ("guide", "guide_scale")] == ["@2", 3.0]


REFUSED = {
    "no such step": (["--guide-with=tiny@3"], ["--guide-with tiny@3", "There are: 2, 4, 6"]),
    "no such run": (["--guide-with=other@2"], ["other"]),
    "no step": (["--guide-with=tiny@x"], ["'x' is no step", "RUN@STEP"]),
    "itself": (["--guide-with=@6"], ["is the model itself", "@2, @4"]),
    "scale alone": (["--guide-scale=2"], ["--guide-scale has no effect", "--guide-with"]),
    "another shape": (["--guide-with=small.safetensors"], ["8x12x1", "28x28x1", "same shape"]),
    "below 0": (["--guide-with=@2", "--guide-scale=-1"], ["--guide-scale"]),
    "classes": (["--guide-with=classes.safetensors"], ["only learned images of a class", "label_dropout"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_guide_is_refused_and_nothing_is_written(ddpm_here: Ddpm, folder: Path, name: str) -> None:
    arguments, words = REFUSED[name]
    exported(folder / "small.safetensors", shape=(1, 8, 12))
    exported(folder / "classes.safetensors", "model.num_classes=3", "objective.label_dropout=0")
    before = files_below(folder)
    assert_refused(ddpm_here("sample", "tiny", *arguments, "--out=refused.png", cwd=folder), *words)
    assert files_below(folder) == before


def test_a_guide_of_another_schedule_and_with_classes_is_taken(ddpm_here: Ddpm, folder: Path) -> None:
    """Cosine levels reach further than the linear ones of the run, so that the guide has all of them."""
    sets = ("schedule.kind=cosine", "schedule.timesteps=20", "model.num_classes=3", "objective.parameterization=v")
    exported(folder / "cosine.safetensors", *sets)
    assert not np.array_equal(drawn(ddpm_here, folder, "--guide-with=cosine.safetensors"), drawn(ddpm_here, folder))


def test_a_guide_whose_schedule_has_none_of_the_levels_is_refused(ddpm_here: Ddpm, folder: Path) -> None:
    far = exported(folder / "far.safetensors", "schedule.kind=linear", "schedule.beta_start=1e-9", "schedule.beta_end=1e-8")
    before = files_below(folder)
    assert_refused(ddpm_here("sample", "tiny", f"--guide-with={far}", "--out=refused.png", cwd=folder), "none of the", "overlaps")
    assert files_below(folder) == before


def test_a_training_has_no_guide(ddpm_here: Ddpm, folder: Path) -> None:
    assert_refused(ddpm_here("resume", "tiny", "--steps=8", "--set=sample.guide.model=@2", cwd=folder), "no place in a training")
    before = files_below(folder)
    assert_refused(ddpm_here("train", *TINY, "--set=sample.guide.model=tiny@2", cwd=folder), "sample.guide.model", "leave it out")
    assert_refused(ddpm_here("tune-sampler", "tiny", "--set=sample.guide.model=@2", cwd=folder), "sample.guide.model")
    assert_refused(ddpm_here("evaluate", "tiny", "--metrics=bits-per-dim", *GUIDED, cwd=folder), "--guide-with has no effect")
    assert files_below(folder) == before
