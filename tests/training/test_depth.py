"""Runs on data of more than 8 bits: trained on their full depth, kept with the model, refused with data of another range."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_configs import NETWORK, as_sets

import ddpm_cli.bench.subject as bench_subject
import ddpm_cli.build.data as building
import ddpm_cli.evaluation.evaluate as evaluation
import ddpm_cli.evaluation.extractors as extractors
import ddpm_cli.training.planning.prepare as preparing
from ddpm_cli import load
from ddpm_cli.cli.app import run as command
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.schema.config import Config
from ddpm_cli.core.compute.seeds import generator
from ddpm_cli.data.images import Dataset, ImageSet, images_sha256
from ddpm_cli.data.scale import USUAL, Scale
from ddpm_cli.diffusion.denoise import predictor
from ddpm_cli.diffusion.guidance import with_labels
from ddpm_cli.diffusion.likelihood import bits_per_dim
from ddpm_cli.errors import DataError, RequestError
from ddpm_cli.evaluation.evaluate import evaluate, evaluate_run
from ddpm_cli.evaluation.settings import EvaluateSettings
from ddpm_cli.metrics.classifier_fit import fit_classifier
from ddpm_cli.results.events import Event, SamplesDrawn, TrainPlanned
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.generate import load_trained
from ddpm_cli.training.train import resume, train

TWELVE, FLOATS = Scale(0, 4095, "uint16"), Scale(-1.0, 3.0, "float32")
CPU = torch.device("cpu")


def deep_set(scale: Scale, channels: int = 1, count: int = 40) -> Dataset:
    """Smooth blobs that use the whole range, 16x16."""
    draws = np.random.default_rng(0)
    y, x = np.mgrid[0:16, 0:16]
    centres, width = draws.uniform(3, 13, (count, channels, 2, 1, 1)), draws.uniform(2, 5, (count, channels, 1, 1))
    blobs = np.exp(-((y - centres[:, :, 0]) ** 2 + (x - centres[:, :, 1]) ** 2) / (2 * width**2))
    values = scale.low + blobs * (scale.high - scale.low)
    images = (values if scale.stored == "float32" else values.round()).astype(scale.stored)
    parts = [ImageSet(part, np.zeros(len(part), np.int64), ()) for part in (images[:32], images[32:])]
    return Dataset("blobs", "made for the test", *parts, images_sha256(images[:32]), scale=scale)


def config_of(*sets: str) -> Config:
    short = {"train.steps": 3, "train.batch_size": 4, "train.sample_n": 2, "train.sampler.steps": 2, "train.eval_images": 4}
    settings = NETWORK | short | {"schedule.timesteps": 20, "data.kind": "fashion-mnist-10k", "train.device": "cpu"}
    return load_config(sets=[*as_sets(settings), "sample.sampler=ddim", "sample.sampler.steps=2", *sets]).config


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))


def give(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every loader of data find this set."""
    for module in (building, preparing, evaluation, bench_subject):
        monkeypatch.setattr(module, "build_dataset", lambda *arguments, **named: dataset)


@pytest.mark.parametrize("scale", [TWELVE, FLOATS], ids=str)
def test_a_run_keeps_its_range_and_draws_in_it(scale: Scale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    give(deep_set(scale), monkeypatch)
    events: list[Event] = []
    train(config_of(), runs=tmp_path / "runs", name="deep", on_event=events.append)
    run = tmp_path / "runs" / "deep"
    said = {"low": scale.low, "high": scale.high, "stored": scale.stored}
    assert json.loads((run / "run.json").read_text())["data"]["scale"] == said
    assert latest_checkpoint(RunDirectory(run)).state["scale"] == said
    (plan,) = [event.plan for event in events if isinstance(event, TrainPlanned)]
    assert plan.pixels == str(scale)
    shown = [event.images for event in events if isinstance(event, SamplesDrawn)]
    assert {images.dtype for images in shown} == {np.dtype(np.uint8)}
    drawn = load(run, device="cpu").sample(2, progress=False)
    assert drawn.dtype == np.dtype(scale.stored)
    assert scale.low <= drawn.min() <= drawn.max() <= scale.high
    assert command(["info", str(run)], debug=False) == 0
    assert f"pixels: {scale}" in " ".join(capsys.readouterr().out.split())


def test_the_first_batch_is_of_full_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of each held-out image equals one that is computed here, from the stored values in float64."""
    dataset = deep_set(TWELVE)
    give(dataset, monkeypatch)
    run = tmp_path / "runs" / "deep"
    train(config_of(), runs=run.parent, name="deep")
    trained = load_trained(run, CPU)
    figure = evaluate(trained, dataset, ["loss-per-timestep"], EvaluateSettings(n=4))[0]
    x_0 = torch.from_numpy(dataset.test.images[:4].astype(np.float64) * 2 / 4095 - 1).float()
    assert len(np.unique(dataset.test.images[:4])) > 256  # so that 8 bits could not hold them
    loss, whole = trained.config.objective.build_loss(), []
    draws = generator(CPU, 0, "loss-per-timestep", 0)
    for low in range(20):
        t = torch.randint(low, low + 1, (4,), generator=draws)
        eps = torch.randn(x_0.shape, generator=draws)
        whole.append(loss(with_labels(trained.network, None), x_0, t, eps, trained.schedule).detach().double())
    assert figure.value == pytest.approx(float(torch.stack(whole).mean()), rel=1e-5)


@pytest.mark.parametrize("with_checkpoint", [True, False])
def test_data_of_another_range_are_refused_at_a_resume(
    with_checkpoint: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = deep_set(TWELVE)
    give(dataset, monkeypatch)
    train(config_of(), runs=tmp_path / "runs", name="deep")
    run = tmp_path / "runs" / "deep"
    if not with_checkpoint:
        for path in sorted((run / "checkpoints").rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
    give(replace(dataset, scale=Scale(0, 8191, "uint16")), monkeypatch)
    with pytest.raises(DataError) as error:
        resume(run, budget={"steps": 6}, data_changed=True)
    assert "0 to 8,191 (uint16)" in error.value.message
    assert "made for 0 to 4,095 (uint16)" in error.value.message
    give(dataset, monkeypatch)
    assert resume(run, budget={"steps": 6}).step == 6


def test_an_old_run_has_8_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = deep_set(USUAL)
    give(dataset, monkeypatch)
    train(config_of(), runs=tmp_path / "runs", name="usual")
    run = tmp_path / "runs" / "usual"
    assert "scale" not in latest_checkpoint(RunDirectory(run)).state
    assert "scale" not in json.loads((run / "run.json").read_text())["data"]
    assert load_trained(run, CPU).scale == USUAL


@pytest.mark.parametrize("objective", ["objective.loss=vlb", "objective.loss=hybrid"])
def test_a_bound_takes_the_levels_of_the_data_and_no_floats(
    objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(deep_set(TWELVE), monkeypatch)
    train(config_of(objective), runs=tmp_path / "runs", name="deep")
    give(deep_set(FLOATS), monkeypatch)
    with pytest.raises(RequestError, match="are floats"):
        train(config_of(objective), runs=tmp_path / "runs", name="floats")
    assert not (tmp_path / "runs" / "floats").exists()


def test_endpoints_of_a_learned_schedule_are_of_countable_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = ("schedule.kind=learned", "schedule.endpoint_range=1.0", "objective.parameterization=v")
    give(deep_set(TWELVE), monkeypatch)
    train(config_of(*learned), runs=tmp_path / "runs", name="deep")
    give(deep_set(FLOATS), monkeypatch)
    with pytest.raises(RequestError, match="endpoint_range = 0"):
        train(config_of(*learned), runs=tmp_path / "runs", name="floats")


def test_likelihoods_are_of_the_levels_and_metrics_say_the_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = deep_set(TWELVE)
    give(dataset, monkeypatch)
    train(config_of(), runs=tmp_path / "runs", name="deep")
    run = tmp_path / "runs" / "deep"
    monkeypatch.setattr(extractors, "fit_classifier", partial(fit_classifier, epochs=2))  # what it learns is no matter here
    names = ["bits-per-dim", "nll-ode", "fcd", "nearest"]
    found = evaluate_run(run, names, {"n": 4, "fit_extractor": True, "likelihood_steps": 4}, device="cpu").figures
    figures = {figure.metric: figure for figure in found}
    assert figures["bits-per-dim"].details["levels"] == figures["nll-ode"].details["levels"] == 4096
    for name in ("fcd", "nearest"):
        assert figures[name].details["depth"] == "8-bit view of 0 to 4,095 (uint16)"
    trained = load_trained(run, CPU)
    bound = bits_per_dim(
        predictor(trained.network, trained.schedule, trained.config.objective.build_prediction()),
        torch.from_numpy(dataset.test.images[:4].astype(np.float64) * 2 / 4095 - 1).float(),
        trained.schedule,
        variance="fixed-small",
        generator=generator(CPU, 0, "bits-per-dim", 0),
        steps=4,
        levels=4096,
    )
    assert figures["bits-per-dim"].value == pytest.approx(float(bound.total.mean()), rel=1e-5)


def test_floats_have_no_likelihood_and_other_ranges_are_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = deep_set(FLOATS)
    give(dataset, monkeypatch)
    train(config_of(), runs=tmp_path / "runs", name="deep")
    run = tmp_path / "runs" / "deep"
    for metric in ("bits-per-dim", "nll-ode"):
        with pytest.raises(RequestError, match=r"floats, -1 to 3 \(float32\)") as error:
            evaluate_run(run, [metric], {"n": 4}, device="cpu")
        assert "loss-per-timestep" in error.value.remedy
    assert not (run / "evaluations").exists()
    give(replace(dataset, scale=Scale(0.0, 3.0, "float32")), monkeypatch)
    with pytest.raises(RequestError, match="those of the model from -1 to 3"):
        evaluate_run(run, ["loss-per-timestep"], {"n": 4}, device="cpu")


@pytest.mark.parametrize("channels", [2, 5, 16])
def test_many_channels_train_sample_and_export(channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give(deep_set(TWELVE, channels), monkeypatch)
    train(config_of(), runs=tmp_path / "runs", name="deep")
    run = tmp_path / "runs" / "deep"
    out = tmp_path / "model.safetensors"
    assert command(["export", str(run), "--out", str(out)], debug=False) == 0
    model, exported = load(run, device="cpu"), load(out, device="cpu")
    assert model.scale == exported.scale == TWELVE
    drawn = exported.sample(2, progress=False)
    assert (drawn.dtype, drawn.shape) == (np.dtype(np.uint16), (2, 16, 16, channels))
    np.testing.assert_array_equal(drawn, model.sample(2, progress=False))
