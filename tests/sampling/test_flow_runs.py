"""Runs of straight and of circular paths: what else is done with a trained model is done with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Ddpm, assert_refused
from tiny_configs import tiny_config

import ddpm_cli
from ddpm_cli.interop.export import export_model
from ddpm_cli.interop.export_request import ExportOptions
from ddpm_cli.training.train import train

RUNS = {"flow": "flow", "trig-flow": "v"}
"""Kinds of schedules, and what their networks predict."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flows")
    for kind, prediction in RUNS.items():
        sets = (f"schedule={kind}", "schedule.timesteps=20", f"objective.parameterization={prediction}", "train.steps=4")
        train(tiny_config(*sets, "optimizer.lr=5e-3", "ema.decay=0.5"), runs=folder / "runs", name=kind)
    return folder


@pytest.fixture(params=RUNS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(kind: str, folder: Path) -> ddpm_cli.Model:
    return ddpm_cli.load(kind, runs=folder / "runs", device="cpu")


def test_the_ode_gives_the_likelihood_and_the_bound_is_refused(kind: str, folder: Path, ddpm_here: Ddpm) -> None:
    line = ("evaluate", f"runs/{kind}", "--n=2", "--json")
    (figure,) = json.loads(ddpm_here(*line, "--metrics=nll-ode", "--likelihood-steps=6", cwd=folder).stdout)["figures"]
    assert 0 < figure["value"] < 20
    assert_refused(ddpm_here(*line, "--metrics=bits-per-dim", cwd=folder), "each with a beta", "Measure nll-ode")


def test_pictures_are_edited(model: ddpm_cli.Model) -> None:
    """The ends of a way are nearly the pictures; a filling keeps what is known; more of a picture goes with more strength."""
    first, last = ddpm_cli.load_images("fashion-mnist-10k", n=2)[0]
    way = model.interpolate(first, last, 3, steps=19, progress=False)
    for end, picture in ((way[0], first), (way[-1], last)):
        assert np.abs(end.astype(float) - picture).mean() < 3
    mask = np.zeros((28, 28), dtype=bool)
    mask[14:] = True
    filled = model.inpaint(first, mask, 2, steps=6, resample=2, jump=2, progress=False)
    assert np.array_equal(filled[:, :14], np.stack([first[:14]] * 2))
    assert not np.array_equal(filled[0], filled[1])
    changed = [np.abs(model.img2img(first, share, progress=False)[0].astype(float) - first).mean() for share in (0.0, 0.2, 1.0)]
    assert changed[0] == 0 < changed[1] < changed[2]


def test_samplers_are_tuned(kind: str, folder: Path, ddpm_here: Ddpm) -> None:
    tuned = json.loads(ddpm_here("tune-sampler", f"runs/{kind}", "--steps=3", "--n=2", "--json", cwd=folder).stdout)
    (found,) = tuned["samplers"]
    assert found["distance"] < 1.2 * found["untuned_distance"]  # whose steps lie between whole ones, of which there are but 20
    assert found["sampler"]["spacing"]["timesteps"][0] == 19
    assert ddpm_here("sample", f"runs/{kind}", "--sampler=tuned", "--n=1", cwd=folder).returncode == 0


def test_a_model_of_few_steps_is_distilled(kind: str, folder: Path, ddpm_here: Ddpm) -> None:
    line = ("distill", f"runs/{kind}", "--steps=2", f"--name=fast-{kind}", "--set=objective.loss.ends=teacher")
    done = ddpm_here(*line, cwd=folder)
    assert done.returncode == 0, done.stderr
    student = ddpm_cli.load(f"fast-{kind}", runs=folder / "runs", device="cpu")
    assert student.sample(2, progress=False).std() > 5
    assert not np.array_equal(student.sample(1, steps=1, progress=False), student.sample(1, steps=2, progress=False))


@pytest.mark.parametrize(
    ("format", "kind"), [("safetensors", "flow"), ("safetensors", "trig-flow"), ("torch-export", "flow"), ("onnx", "flow")]
)
def test_it_is_exported(format: str, kind: str, folder: Path, tmp_path: Path) -> None:
    """Each is compared with the model before it gets its name; the first and the graph of a sampler draw its very images."""
    out = tmp_path / "exported"
    options = ExportOptions(with_sampler=True, steps=5) if format == "onnx" else ExportOptions()
    done = export_model(folder / "runs" / kind, format, out, options, runs=folder / "runs")
    assert all(comparison.holds for comparison in done.comparisons)
    if format == "safetensors":
        models = (ddpm_cli.load(out, device="cpu"), ddpm_cli.load(kind, runs=folder / "runs", device="cpu"))
        assert np.array_equal(*(model.sample(2, steps=4, progress=False) for model in models))


def test_guides_lead_also_where_schedules_differ(folder: Path) -> None:
    """A run of the other path guides at the same ratio of noise and image; a scale of 1 is without it."""
    model = ddpm_cli.load("flow", runs=folder / "runs", device="cpu")
    drawing: dict[str, Any] = {"steps": 5, "sampler": "dpm-solver++", "progress": False}
    plain, guided, weak = (
        model.sample(2, **drawing, **guide)
        for guide in ({}, {"guide_with": "trig-flow", "guide_scale": 2.0}, {"guide_with": "trig-flow", "guide_scale": 1.0})
    )
    assert np.array_equal(plain, weak)
    assert np.abs(guided.astype(float) - plain).mean() > 0.5
