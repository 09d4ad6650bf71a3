"""What a run or a file may ask for of those who draw from it: bounds, what lifts them, and batches that fit."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import Ddpm, assert_refused, files_below
from hostile import CONFIG, exported, replace_sealed
from PIL import Image
from trained_models import trained_model

from ddpm_cli.build.network import build_network
from ddpm_cli.core.compute.machine_memory import MachineMemory
from ddpm_cli.errors import RequestError
from ddpm_cli.results.events import Notice
from ddpm_cli.sampling import bounds as bounds_module
from ddpm_cli.sampling.bounds import Demand, about, image_bytes, require_affordable, require_trainable, with_fitting_batch
from ddpm_cli.sampling.file_bounds import OWN, Bounds
from ddpm_cli.sampling.generate import generate_samples

SMALL = Path("file")


def asking(**values: object) -> str:
    """A stored config that asks for other numbers; those of [train] begin with train_."""
    lines, section = [], ""
    for line in CONFIG.splitlines():
        section = line if line.startswith("[") else section
        key = line.partition(" =")[0]
        name = f"train_{key}" if section.startswith("[train") else key
        lines.append(f"{key} = {json.dumps(values[name])}" if name in values else line)
    return "\n".join(lines)


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of a gigabyte, half of which is free."""
    monkeypatch.setattr(bounds_module, "machine_memory", lambda: MachineMemory(10**9, 5 * 10**8))


@pytest.fixture
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes a second for a hundred operations."""
    monkeypatch.setattr(bounds_module, "speed_of", lambda device: 100.0)
    monkeypatch.setattr(bounds_module, "SLOWEST", 0.0)


# ------------------------------------------------------------------------------------------------------------- batches


def test_an_absurd_batch_shrinks_and_changes_no_image(little_memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds_module, "UNREMARKABLE", 0)
    trained = trained_model("sample.sampler.steps=2", "sample.batch_size=1000000000")
    each = image_bytes(trained, trained.config.sample)
    monkeypatch.setattr(bounds_module, "machine_memory", lambda: MachineMemory(10**9, 5 * each))
    heard: list[object] = []
    batches = list(generate_samples(trained, range(10), on_event=heard.append))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    (notice,) = [event for event in heard if isinstance(event, Notice)]
    assert "drawing 4 at a time, which changes no image" in notice.message
    monkeypatch.setattr(bounds_module, "machine_memory", lambda: MachineMemory(10**9, 10**9))
    (whole,) = generate_samples(trained, range(10))
    assert (torch.cat(batches).int() - whole.int()).abs().max() <= 1
    assert with_fitting_batch(trained, trained.config.sample, 10) is trained.config.sample


def test_one_image_is_always_tried(little_memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds_module, "UNREMARKABLE", 0)
    monkeypatch.setattr(bounds_module, "machine_memory", lambda: MachineMemory(10**9, 0))
    trained = trained_model()
    assert with_fitting_batch(trained, trained.config.sample, 10).batch_size == 1


def test_guidance_doubles_what_an_image_takes() -> None:
    trained = trained_model("model.num_classes=3")
    plain = image_bytes(trained, trained.config.sample)
    guidance = trained.config.sample.guidance.model_copy(update={"scale": 2.0})
    assert 1.2 < image_bytes(trained, trained.config.sample.model_copy(update={"guidance": guidance})) / plain <= 2


# -------------------------------------------------------------------------------------------------------------- bounds


def test_what_the_user_names_is_told_and_not_refused(slow_machine: None) -> None:
    trained = trained_model()
    settings = trained.config.sample
    for demand, words in (
        (Demand(1, 12), "12 evaluations of the network for an image"),
        (Demand(10**6, 1, images_from_file=True, steps_from_file=False), "asks for 1,000,000 images"),
        (Demand(5000, 1, images_from_file=True), "1 evaluations of the network for 5,000 images"),
    ):
        with pytest.raises(RequestError, match=words) as refused:
            require_affordable(trained, settings, demand)
        assert "--no-limits" in refused.value.remedy
        for lifting in (Bounds(lifted=True), OWN):
            heard: list[object] = []
            require_affordable(trained, settings, demand, lifting, heard.append)
            assert any(isinstance(event, Notice) and "on this machine" in event.message for event in heard)
    require_affordable(trained, settings, Demand(10**6, 1, steps_from_file=False), Bounds(seconds_an_image=1e9, seconds=1e9))


def test_a_long_schedule_is_timed_by_its_steps() -> None:
    trained = trained_model()
    heard: list[object] = []
    require_affordable(trained, trained.config.sample, Demand(2, 10_001), on_event=heard.append)
    (notice,) = heard
    assert isinstance(notice, Notice)
    assert "2 images in 10,001 evaluations of the network each will take about" in notice.message
    require_affordable(trained, trained.config.sample, Demand(2, 10_000), on_event=lambda event: pytest.fail(str(event)))


def test_what_comes_before_the_images_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds_module, "seconds_for_an_image", lambda *_: 100.0)
    trained, heard = trained_model(), list[object]()
    require_affordable(trained, trained.config.sample, Demand(11, 50), on_event=lambda event: pytest.fail(str(event)))
    require_affordable(trained, trained.config.sample, Demand(11, 50, beforehand=2_000), on_event=heard.append)
    (notice,) = heard
    assert isinstance(notice, Notice)
    assert "11 images in 50 evaluations of the network each, and 2,000 before them, will take about 85 minutes" in notice.message


def test_more_memory_than_there_is(little_memory: None) -> None:
    trained = trained_model()
    with pytest.raises(RequestError, match=r"8x12, 1 at a time, .* this machine has 1\.0 GB"):
        require_affordable(trained, trained.config.sample, Demand(10**7, 1, steps_from_file=False))
    require_affordable(trained, trained.config.sample, Demand(10**7, 1, steps_from_file=False, kept=256))
    with pytest.raises(RequestError, match="100,000 at a time"):
        require_affordable(trained, trained.config.sample, Demand(10**5, 1, at_once=10**5))
    giant = trained.config.model_copy(update={"model": trained.config.model.model_copy(update={"stem": 1, "channel_mult": (1,)})})
    with torch.device("meta"):
        network = build_network(giant, (1, 2048, 2048))
    for own in (Bounds(), OWN):
        with pytest.raises(RequestError, match=r"images of 2048x2048 takes more than"):
            require_trainable(network, SMALL, own, lambda event: None, giant.model.makes_smaller)
    require_trainable(network, SMALL, Bounds(lifted=True), lambda event: None, giant.model.makes_smaller)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 seconds"), (119, "119 seconds"), (600, "10 minutes"), (8000, "2 hours"), (1e9, "32 years")]
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert about(seconds) == words


# ------------------------------------------------------------------------------------------------------ strangers' files


def test_a_file_may_not_ask_for_a_million_images(ddpm_here: Ddpm, tmp_path: Path) -> None:
    file = exported(tmp_path / "m.safetensors", asking(n=10**6, batch_size=10**9)).name
    before = files_below(tmp_path)
    assert_refused(ddpm_here("sample", file), "m.safetensors asks for 1,000,000 images", "--n", "--no-limits")
    assert files_below(tmp_path) == before
    done = ddpm_here("sample", file, "--n", "3", "--steps", "2", "--no-preview")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def attention(tmp_path: Path) -> str:
    """A file of a few kilobytes with attention between four million pixels."""
    for name, grey in (("a.png", 0), ("white.png", 255)):
        Image.fromarray(np.full((2048, 2048), grey, np.uint8)).save(tmp_path / name)
    return exported(tmp_path / "m.safetensors", CONFIG, image_shape=[1, 2048, 2048]).name


@pytest.mark.parametrize(
    "command",
    [
        ("sample", "FILE", "--n", "1"),
        ("export", "FILE", "--format", "torch-export", "--out", "x.pt2"),
        ("img2img", "a.png", "--run", "FILE"),
        ("inpaint", "a.png", "white.png", "--run", "FILE"),
        ("interpolate", "1", "2", "--run", "FILE"),
    ],
    ids=lambda command: command[0],
)
def test_attention_over_millions_of_pixels_is_refused(
    command: tuple[str, ...], ddpm_here: Ddpm, tmp_path: Path, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds_module, "speed_of", lambda device: 1e9)
    before = files_below(tmp_path)
    done = ddpm_here(*(attention if part == "FILE" else part for part in command))
    assert done.returncode == 2, done.stderr
    assert re.search(r"m\.safetensors asks for .* evaluations? of the network for .*: about .* on this machine", done.stderr)
    assert "--no-limits" in done.stderr
    assert files_below(tmp_path) == before


def test_evaluate_and_report_and_compare_have_bounds_too(
    ddpm_here: Ddpm, tmp_path: Path, trained_folder: Path, slow_machine: None
) -> None:
    run = str(trained_folder / "runs/tiny")
    other = str(shutil.copytree(run, tmp_path / "other"))
    for command in (
        ("evaluate", run, "--metrics", "fcd", "--out", "out"),
        ("evaluate", run, "--metrics", "bits-per-dim", "--out", "out"),
        ("report", run, "--out", "out.html"),
        ("compare", run, other, "--out", "out"),
    ):
        assert_refused(ddpm_here(*command), "evaluations of the network for", "on this machine", "--no-limits")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (10**9, ["train.sample_n is 1,000,000,000", "fit into no picture", "Set train.sample_n=16"]),
        (20_000, ["runs/tiny asks for 20,000 images", "Set train.sample_n=16", "--no-limits"]),
    ],
)
def test_resume_does_not_begin_with_samples_that_never_end(
    number: int, words: list[str], ddpm_here: Ddpm, trained_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained_folder / "runs", tmp_path / "runs")
    stored = tmp_path / "runs/tiny/checkpoints/step-00000006"
    config = (stored / "config.toml").read_text()
    assert "sample_n = 4" in config
    asking_much = config.replace("sample_n = 4", f"sample_n = {number}")
    replace_sealed(stored, "config.toml", asking_much.encode())
    (tmp_path / "runs/tiny/config.toml").write_text(asking_much)
    assert_refused(ddpm_here("resume", "tiny", "--steps", "8"), *words)
