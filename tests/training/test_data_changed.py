"""Runs whose pictures were added to, removed or changed: they go on with the new ones if asked, exactly, and say what changed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interrupted_runs import stop_at, without_times
from picture_files import write_picture
from PIL import Image
from tiny_configs import FEW_IMAGES, TINY, as_sets

from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.schema.config import Config
from ddpm_cli.data.scale import Scale
from ddpm_cli.errors import DataError, InterruptedRunError
from ddpm_cli.results.events import Event, Notice, TrainSummary
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.metrics_log import read_rows
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.generate import load_trained
from ddpm_cli.training.train import resume, train

SHAPE = (8, 8, 3)


def config_of(photos: Path, *sets: str) -> Config:
    common = {key: value for key, value in (TINY | FEW_IMAGES).items() if not key.startswith("data.")}
    settings = [*as_sets(common), "data.kind=folder", f"data.root='{photos}'", "train.log_every=1", "train.eval_every=2", *sets]
    return load_config(sets=settings).config


def write_photos(folder: Path, numbers: range) -> Path:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        write_picture(folder / f"{number:03d}.png", number, SHAPE)
    return folder


def told(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text())
    return found


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))


def test_a_run_goes_on_with_pictures_that_were_added_and_is_itself_exactly_resumable(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", range(30))
    for name in ("whole", "parts"):
        train(config_of(photos, "train.steps=3"), runs=tmp_path / "runs", name=name)
    before = told(tmp_path / "runs" / "whole")["data"]
    write_photos(photos, range(30, 50))
    (photos / "007.png").unlink()
    whole, parts = tmp_path / "runs" / "whole", tmp_path / "runs" / "parts"
    with pytest.raises(DataError, match="other training images"):
        resume(whole, budget={"steps": 9})

    notices: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Notice):
            notices.append(event.message)

    resume(whole, budget={"steps": 9}, data_changed=True, on_event=listen)
    after = told(whole)
    (change,) = after["data_changes"]
    assert (change["step"], change["images_before"], change["images"]) == (3, before["train_images"], after["data"]["train_images"])
    assert change["added"] - change["removed"] == change["images"] - change["images_before"] > 0
    assert change["epochs"] == pytest.approx(3 * 8 / before["train_images"])
    assert change["sha256"] == after["data"]["sha256"] != change["sha256_before"] == before["sha256"]
    assert any("from step 4 on" in notice and f"{change['added']} added" in notice for notice in notices)

    with pytest.raises(InterruptedRunError):
        resume(parts, budget={"steps": 9}, data_changed=True, on_event=stop_at(6))
    resume(parts)
    for group in ("model", "ema", "optimizer"):
        first, second = (latest_checkpoint(RunDirectory(run)).tensors(group) for run in (whole, parts))
        assert [name for name in first if not torch.equal(first[name], second[name])] == []
    rows, others = (without_times(read_rows(run / "metrics.jsonl")) for run in (whole, parts))
    assert rows == others
    epochs = [row["epoch"] for row in rows]
    assert epochs == sorted(epochs)
    assert told(parts)["data_changes"] == after["data_changes"]


def test_a_brighter_picture_leaves_the_others_what_they_were(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(20):
        Image.fromarray(np.random.default_rng(number).integers(0, 12, (8, 8), np.uint8)).save(photos / f"{number:03d}.png")
    run = train(config_of(photos, "train.steps=2", "data.held_out=0"), runs=tmp_path / "runs", name="dark").run
    scale = load_trained(run, torch.device("cpu")).scale
    assert scale == Scale(0, 11, "uint8")
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(photos / "bright.png")
    with pytest.raises(DataError, match="other training images"):
        resume(run, budget={"steps": 4})
    notices: list[str] = []
    resume(run, budget={"steps": 4}, data_changed=True, on_event=lambda e: notices.append(getattr(e, "message", "")))
    (change,) = told(run)["data_changes"]
    assert (change["added"], change["removed"]) == (1, 0)
    assert load_trained(run, torch.device("cpu")).scale == scale
    assert any("64 values lie outside of 0 to 11" in notice for notice in notices)
    assert any("data.range" in notice and "Changed for the rest of the run" in notice for notice in notices)
    assert resume(run, budget={"steps": 5}) is not None  # without the flag, as config.toml has the range


def test_a_run_that_was_killed_after_the_change_needs_no_flag_again(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", range(30))
    run = tmp_path / "runs" / "run"
    train(config_of(photos, "train.steps=3"), runs=tmp_path / "runs", name="run")
    write_photos(photos, range(30, 40))

    class KilledError(Exception):
        pass

    def kill(event: Event) -> None:
        if type(event).__name__ == "TrainProgress":
            raise KilledError

    with pytest.raises(KilledError):
        resume(run, budget={"steps": 6}, data_changed=True, on_event=kill)
    assert latest_checkpoint(RunDirectory(run)).step == 3
    summary = resume(run)
    assert summary is not None
    assert summary.step == 6
    assert len(told(run)["data_changes"]) == 1


def test_epochs_count_the_pictures_that_there_are(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", range(30))
    run = tmp_path / "runs" / "run"
    train(config_of(photos, "train.epochs=1"), runs=tmp_path / "runs", name="run")
    few = told(run)["data"]["train_images"]
    step = latest_checkpoint(RunDirectory(run)).step
    assert step == -(-few // 8)
    write_photos(photos, range(30, 60))
    summary = resume(run, budget={"epochs": 2}, data_changed=True)
    assert summary is not None
    many = told(run)["data"]["train_images"]
    assert summary.step == step + math.ceil((2 - step * 8 / few) * many / 8)
    assert 2 <= summary.epochs < 2 + 8 / many


def test_pictures_of_another_size_want_a_new_run(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", range(30))
    train(config_of(photos, "train.steps=2"), runs=tmp_path / "runs", name="run")
    for path in photos.iterdir():
        write_picture(path, 1 + int(path.stem), (12, 12, 3))
    with pytest.raises(DataError, match="images of 12x12") as refused:
        resume(tmp_path / "runs" / "run", budget={"steps": 4}, data_changed=True)
    assert "train --from" in refused.value.remedy


def test_patience_begins_anew_with_other_pictures(tmp_path: Path) -> None:
    """A run that was stopped because it no longer paid is to learn from the new ones."""
    photos = write_photos(tmp_path / "photos", range(30))
    still = ("optimizer.lr=1e-12", "model.dropout=0", "train.patience=5", "train.steps=14")
    first = train(config_of(photos, *still), runs=tmp_path / "runs", name="run")
    assert isinstance(first, TrainSummary)
    assert first.step == 10
    write_photos(photos, range(30, 60))
    again = resume(first.run, data_changed=True)
    assert again is not None
    assert again.step == 14
