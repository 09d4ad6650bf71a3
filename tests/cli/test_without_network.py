"""A run that began where the full Fashion-MNIST could not be had, and what becomes of it once it can."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from command import Ddpm, assert_refused
from tiny_configs import FEW_IMAGES, TINY, as_options, as_sets, tiny_base, tiny_config

import ddpm_cli.experiments.sweep as sweeping
from ddpm_cli.config.resolve.loader import from_toml_text
from ddpm_cli.data.sources import fashion_mnist
from ddpm_cli.errors import DataError, InterruptedRunError, RequestError
from ddpm_cli.experiments.sweep import run_sweep
from ddpm_cli.experiments.sweep_file import load_sweep
from ddpm_cli.experiments.sweep_plan import plan_sweep
from ddpm_cli.results.events import Event, Notice
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.model_file import load_model_file
from ddpm_cli.runs.record import read_config
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.generate import load_trained
from ddpm_cli.training.processes import require_agreement
from ddpm_cli.training.train import resume, train

CHANGES = {"model.channel_mult": [1], "schedule.timesteps": 20}
GOES_ON = "runs/a was begun where Fashion-MNIST's 60,000 images could not be had, and goes on with the 10,000"
unpacked = cache(fashion_mnist.load_fashion_mnist_10k)


def idx_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(10, size=shape, dtype=np.uint8) for shape in ((60, 28, 28), (60,), (20, 28, 28), (20,))]
    shapes = [bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) for array in arrays]
    return {name: shape + array.tobytes() for name, shape, array in zip(fashion_mnist.SHA256, shapes, arrays, strict=True)}


FULL_SET = idx_files()


def unreachable(url: str, path: Path, md5: str) -> None:
    raise URLError("no network in this test")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, an empty system folder and no network; a small set of noise counts as the published one."""
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(fashion_mnist, "fetch", unreachable)
    monkeypatch.setattr(fashion_mnist, "load_fashion_mnist_10k", unpacked)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in FULL_SET.items()}
    monkeypatch.setattr(fashion_mnist, "SHA256", sums)


def bring_the_full_set(folder: Path) -> None:
    (folder / "cache").mkdir(exist_ok=True)
    for name, content in FULL_SET.items():
        (folder / "cache" / f"{name}.gz").write_bytes(gzip.compress(content))


def words(text: str) -> str:
    return " ".join(text.split())


def data_of(config_toml: str) -> str:
    return from_toml_text(config_toml, "test").data.kind


def weights(run: Path) -> bytes:
    return (latest_checkpoint(RunDirectory(run)).path / "ema.safetensors").read_bytes()


def as_the_version_before_wrote_it(run: Path) -> None:
    """A run whose configs say what was asked for, and whose run.json alone tells of the images that were used, by its notice."""
    info = json.loads((run / "run.json").read_text())
    del info["data"]["stands_in_for"], info["launches"]
    (run / "run.json").write_text(json.dumps(info))
    checkpoint = latest_checkpoint(RunDirectory(run)).path
    for path in (run / "config.toml", checkpoint / "config.toml"):
        path.write_text(path.read_text().replace('"fashion-mnist-10k"', '"fashion-mnist"'))
        assert data_of(path.read_text()) == "fashion-mnist"
    state = json.loads((checkpoint / "state.json").read_text())
    state["launch"] = {key: state["launch"][key] for key in ("processes", "threads", "device", "torch")}
    (checkpoint / "state.json").write_text(json.dumps(state))
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    for name in ("config.toml", "state.json"):
        content = (checkpoint / name).read_bytes()
        manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def trained(folder: Path, name: str, *sets: str, steps: int = 2) -> Path:
    train(tiny_config("data.kind=fashion-mnist", *as_sets(CHANGES), f"train.steps={steps}", *sets), runs=folder / "runs", name=name)
    return folder / "runs" / name


def resumed(run: Path, steps: int) -> str:
    """What is said meanwhile."""
    events: list[Event] = []
    resume(run, budget={"steps": steps}, on_event=events.append)
    return " ".join(event.message for event in events if isinstance(event, Notice))


def test_a_run_on_the_bundled_images_goes_on_with_them(ddpm_here: Ddpm, tmp_path: Path) -> None:
    settings = {key: value for key, value in (TINY | FEW_IMAGES | CHANGES).items() if key != "data.kind"}
    done = ddpm_here("train", *as_options(settings), "--steps=2", "--name=a")
    assert done.returncode == 0, done.stderr
    assert "its config says fashion-mnist-10k), also when it is resumed" in words(done.stderr)
    run = tmp_path / "runs" / "a"
    assert data_of((run / "config.toml").read_text()) == "fashion-mnist-10k"
    assert data_of(latest_checkpoint(RunDirectory(run)).config_toml) == "fashion-mnist-10k"
    told = json.loads((run / "run.json").read_text())["data"]
    assert (told["name"], told["stands_in_for"]) == ("fashion-mnist-10k", "fashion-mnist")

    bring_the_full_set(tmp_path)
    done = ddpm_here("resume", "a", "--steps=4")
    assert done.returncode == 0, done.stderr
    assert GOES_ON in words(done.stderr)
    assert "To train on all of them, start a new run: ddpm train --data fashion-mnist" in words(done.stderr)
    assert weights(run) == weights(trained(tmp_path, "b", "data.kind=fashion-mnist-10k", steps=4))
    assert ddpm_here("export", "a", "--format=safetensors", "--out=a.safetensors").returncode == 0
    exported = json.loads(load_model_file(tmp_path / "a.safetensors")[1]["ddpm"])
    assert data_of(exported["config"]) == "fashion-mnist-10k"


def test_what_the_version_before_wrote_goes_on_as_it_was_trained(tmp_path: Path) -> None:
    run = trained(tmp_path, "a")
    as_the_version_before_wrote_it(run)
    assert read_config(RunDirectory(run)).data.kind == "fashion-mnist-10k"
    assert load_trained(run, torch.device("cpu")).config.data.kind == "fashion-mnist-10k"
    bring_the_full_set(tmp_path)
    said = resumed(run, 3)
    assert "took their place" in said
    assert "data.kind" not in said
    assert data_of((run / "config.toml").read_text()) == "fashion-mnist-10k"
    assert "took their place" in resumed(run, 4)


@pytest.mark.parametrize("kind", ["fashion-mnist", "fashion-mnist-10k"])
def test_a_run_on_the_images_that_it_asked_for_is_told_nothing(tmp_path: Path, kind: str) -> None:
    bring_the_full_set(tmp_path)
    run = trained(tmp_path, "a", f"data.kind={kind}")
    assert "took their place" not in resumed(run, 3)
    assert data_of((run / "config.toml").read_text()) == kind


def test_nothing_stands_in_for_the_images_of_a_run(ddpm_here: Ddpm, tmp_path: Path) -> None:
    bring_the_full_set(tmp_path)
    trained(tmp_path, "a")
    shutil.rmtree(tmp_path / "cache")
    for command in (["resume", "a", "--steps=3"], ["evaluate", "a", "--metrics=loss-per-timestep"]):
        done = ddpm_here(*command, "--device=cpu")
        assert_refused(done, "Fashion-MNIST, on which this model was trained, is missing", "the download failed", "four IDX files")
        assert "10,000" not in done.stderr


SWEEP = f"""
{tiny_base({"data.kind": "fashion-mnist", "schedule.timesteps": 20, "train.steps": 1})}
[arms.a]
[arms.b]
optimizer.lr = 1e-3
"""


def test_a_sweep_that_began_without_the_full_set_ends_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, events = tmp_path / "tiny.toml", list[Event]()
    file.write_text(SWEEP)
    make = sweeping.make_run

    def stopped_after_one(sweep: Any, run: Any, *rest: Any) -> None:
        if (tmp_path / "runs" / "tiny" / sweep.runs[0].name / "run.json").exists():
            raise KeyboardInterrupt
        make(sweep, run, *rest)

    checked = plan_sweep(load_sweep(file), runs=tmp_path / "runs")
    with monkeypatch.context() as patch:
        patch.setattr(sweeping, "make_run", stopped_after_one)
        with pytest.raises(InterruptedRunError):
            run_sweep(checked)
    bring_the_full_set(tmp_path)
    assert run_sweep(plan_sweep(load_sweep(file), runs=tmp_path / "runs", on_event=events.append)) == {}
    infos = [json.loads(path.read_text())["data"] for path in (tmp_path / "runs" / "tiny").glob("*/run.json")]
    assert [info["name"] for info in infos] == ["fashion-mnist-10k"] * 2
    assert any(isinstance(event, Notice) and "so that they compare" in event.message for event in events)


def test_a_sweep_that_began_with_the_full_set_does_not_end_on_another(tmp_path: Path) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(SWEEP)
    bring_the_full_set(tmp_path)
    sweep = load_sweep(file)
    folder = tmp_path / "runs" / sweep.name
    folder.parent.mkdir()
    train(sweep.runs[0].config, runs=folder, name=sweep.runs[0].name)
    assert plan_sweep(sweep, runs=tmp_path / "runs").plan.runs[1].standing == "new"
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(DataError, match="on which this model was trained, is missing"):
        plan_sweep(sweep, runs=tmp_path / "runs")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, None),
        ({"training images": ("ab", "60,000 of fashion-mnist from a cache")}, "process 1 has 60,000 of fashion-mnist from a cache"),
        ({"precision": ("bf16", "bf16")}, "the same precision: process 0 has fp32, process 1 has bf16"),
        ({"kind of device": ("cuda", "cuda")}, "the same kind of device: process 0 has cpu, process 1 has cuda"),
    ],
)
def test_processes_that_came_to_other_things_do_not_train_together(
    monkeypatch: pytest.MonkeyPatch, other: dict[str, Any], said: str | None
) -> None:
    monkeypatch.setattr("accelerate.utils.gather_object", lambda own: [own[0], own[0] | other])
    accelerator: Any = SimpleNamespace(num_processes=2, device=SimpleNamespace(type="cpu"), mixed_precision="no")
    if said is None:
        require_agreement(accelerator, unpacked())
        return
    with pytest.raises(RequestError) as caught:
        require_agreement(accelerator, unpacked())
    assert said in caught.value.message
