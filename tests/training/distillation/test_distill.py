"""Distilling: from whose weights it starts, what it refuses, and that it goes on exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from interrupted_runs import stop_at
from tiny_configs import tiny_config
from torch import Tensor

from ddpm_cli.config.schema.config import Config
from ddpm_cli.config.schema.objective import ConsistencyLoss
from ddpm_cli.config.schema.start import StartConfig
from ddpm_cli.errors import ConfigError, InterruptedRunError, RequestError, RunError
from ddpm_cli.results.events import Event, Notice
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.directory import read_info
from ddpm_cli.runs.metrics_log import read_rows
from ddpm_cli.runs.record import read_config
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.training.distillation.distill import distill_run
from ddpm_cli.training.train import resume, train

pytestmark = pytest.mark.usefixtures("cache_of_its_own")
STEPS = 6
CLASSES = ("model.num_classes=auto", "model.norm_groups=4", "objective.label_dropout=0.3", "ema.decay=0.5")


def teacher_config(*sets: str) -> Config:
    return tiny_config(
        "schedule.timesteps=20", "model.dropout=0.2", "objective.parameterization=v", "train.steps=10", "optimizer.lr=1e-2", *sets
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Teachers; tests must not change them."""
    folder = tmp_path_factory.mktemp("runs")
    train(teacher_config(), runs=folder, name="plain")
    train(teacher_config(*CLASSES), runs=folder, name="classes")
    train(teacher_config(*CLASSES, "data.augment=0.5"), runs=folder, name="augmented")
    return folder


def distilled(teacher: Path, runs: Path, *sets: str, steps: int = STEPS, **options: Any) -> RunDirectory:
    distill_run(teacher, runs=runs, name="fast", sets=sets, flags={"train.steps": (steps, "--steps")}, **options)
    return RunDirectory(runs / "fast")


def tensors(run: RunDirectory, *groups: str) -> dict[str, Tensor]:
    checkpoint = latest_checkpoint(run)
    names = groups or [path.stem for path in checkpoint.path.glob("*.safetensors")]
    return {f"{group}/{name}": value for group in names for name, value in checkpoint.tensors(group).items()}


def test_it_starts_from_the_averaged_weights_and_names_their_owner(runs: Path, tmp_path: Path) -> None:
    """A rate of next to nothing leaves them as they are."""
    told: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Notice):
            told.append(event.message)

    run = distilled(runs / "plain", tmp_path, "optimizer.lr=1e-30", steps=1, on_event=listen)
    theirs = latest_checkpoint(RunDirectory(runs / "plain"))
    for group in ("model", "ema"):
        ours = latest_checkpoint(run).tensors(group)
        assert all(torch.equal(ours[name], value) for name, value in theirs.tensors("ema").items())
    config = read_config(run)
    assert isinstance(config.objective.loss, ConsistencyLoss)
    assert config.start.weights == theirs.path.absolute()
    assert (read_info(run)["start"]["origin"], read_info(run)["start"]["step"]) == (str(theirs.path.absolute()), 10)
    assert any(f"Starts from {theirs.path.absolute()}: EMA weights of step 10." in text for text in told)


def test_it_trains_by_other_distances_as_it_goes_on(runs: Path, tmp_path: Path) -> None:
    """A loss that stays at its first distance gives other weights."""
    changing = tensors(distilled(runs / "plain", tmp_path / "a"), "model")
    staying = tensors(distilled(runs / "plain", tmp_path / "b", "objective.loss.last_distance=0.5"), "model")
    assert any(not torch.equal(changing[name], staying[name]) for name in changing)


@pytest.mark.parametrize(
    ("teacher", "sets"),
    [
        ("plain", ()),
        ("plain", ("objective.loss.ends=teacher",)),
        ("classes", ("objective.loss.guidance.scale=2.5",)),
        ("augmented", ("objective.loss.guidance.scale=2.5", "objective.loss.ends=teacher")),
    ],
)
def test_a_stopped_one_ends_with_the_same_bits_also_without_its_teacher(
    teacher: str, sets: tuple[str, ...], runs: Path, tmp_path: Path
) -> None:
    """The weights of a teacher that guides are in its own checkpoints."""
    import shutil

    shutil.copytree(runs / teacher, tmp_path / "teacher")
    whole = distilled(tmp_path / "teacher", tmp_path / "whole", "train.micro_batch_size=3", *sets)
    with pytest.raises(InterruptedRunError):
        distilled(tmp_path / "teacher", tmp_path / "parts", "train.micro_batch_size=3", *sets, on_event=stop_at(3))
    shutil.rmtree(tmp_path / "teacher")
    resume(tmp_path / "parts" / "fast")
    ours, expected = tensors(RunDirectory(tmp_path / "parts" / "fast")), tensors(whole)
    assert ours.keys() == expected.keys()
    assert ("teacher" in {name.split("/")[0] for name in ours}) == bool(sets)
    assert [name for name in expected if not torch.equal(expected[name], ours[name])] == []


def test_guidance_changes_what_is_learned_and_becomes_the_models_own(runs: Path, tmp_path: Path) -> None:
    plain = distilled(runs / "classes", tmp_path / "a")
    guided = distilled(runs / "classes", tmp_path / "b", guidance=3.0)
    config = read_config(guided)
    assert isinstance(config.objective.loss, ConsistencyLoss)
    assert (config.objective.loss.guidance.scale, config.sample.guidance.scale) == (3.0, 1.0)
    ours, others = tensors(guided, "model"), tensors(plain, "model")
    assert any(not torch.equal(ours[name], others[name]) for name in ours)
    theirs = tensors(RunDirectory(runs / "classes"), "ema")
    teacher = tensors(guided, "teacher")
    assert all(torch.equal(teacher[f"teacher/{name.removeprefix('ema/')}"], value) for name, value in theirs.items())


def test_its_config_starts_it_again(runs: Path, tmp_path: Path) -> None:
    run = distilled(runs / "plain", tmp_path)
    train(read_config(run), runs=tmp_path, name="again")
    first, again = tensors(run, "model"), tensors(RunDirectory(tmp_path / "again"), "model")
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_teacher_that_is_gone_is_refused(runs: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(runs / "plain", tmp_path / "teacher")
    config = read_config(distilled(tmp_path / "teacher", tmp_path, steps=1))
    shutil.rmtree(tmp_path / "teacher")
    with pytest.raises(RunError, match="teacher"):
        train(config, runs=tmp_path, name="again")
    assert not (tmp_path / "again").exists()


def test_guidance_that_a_teacher_has_learned_stays(runs: Path, tmp_path: Path) -> None:
    """Trajectories end at what it makes of images, by its own averaged weights, which the new run keeps."""
    sets = ("objective.autoguidance.scale=2", "objective.autoguidance.kept_at=0.2", "objective.autoguidance.start=0.5")
    train(teacher_config(*sets), runs=tmp_path, name="led")
    run = distilled(tmp_path / "led", tmp_path)
    config = read_config(run)
    assert isinstance(config.objective.loss, ConsistencyLoss)
    assert (config.objective.loss.ends, config.objective.autoguidance.scale) == ("teacher", 1.0)
    theirs = latest_checkpoint(RunDirectory(tmp_path / "led")).tensors("ema")
    kept = latest_checkpoint(run).tensors("teacher")
    assert all(torch.equal(kept[name], value) for name, value in theirs.items())
    other = distilled(tmp_path / "led", tmp_path / "b", "objective.loss.ends=images")
    ours, others = tensors(run, "model"), tensors(other, "model")
    assert any(not torch.equal(ours[name], others[name]) for name in ours)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (("objective.parameterization=x0",), 'predicts "x0"'),
        (("schedule.kind=learned",), "learned schedule"),
        (("objective.loss=hybrid",), "learned the variance"),
    ],
)
def test_a_teacher_that_makes_no_consistency_model_is_refused(sets: tuple[str, ...], words: str, tmp_path: Path) -> None:
    train(teacher_config("train.steps=1", *sets), runs=tmp_path, name="teacher")
    with pytest.raises(ConfigError, match=words) as refused:
        distilled(tmp_path / "teacher", tmp_path)
    assert "rain" in refused.value.remedy
    assert not (tmp_path / "fast").exists()


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (("schedule.kind=linear",), 'schedule is not that of the teacher .*: "linear", not "cosine"'),
        (("objective.parameterization=edm",), 'objective.parameterization is not that of the teacher .*: "edm", not "v"'),
        (
            ("objective.coupling=optimal-transport", "objective.loss.ends=teacher"),
            'objective.coupling is not that of the teacher .*: "optimal-transport", not "independent"',
        ),
        (("objective.noise_candidates=2", "objective.loss.ends=teacher"), "noise_candidates is not that of the .*: 2, not 1"),
        (("objective.loss=simple",), '"simple" distils nothing'),
        (("objective.loss.guidance.scale=2",), "guidance needs a teacher that was trained with classes"),
        (("model.base_channels=16",), "network is not that of the teacher"),
        (("objective.loss.last_distance=0.9",), "must not exceed"),
    ],
)
def test_settings_that_are_not_the_teachers_are_refused(sets: tuple[str, ...], words: str, tmp_path: Path) -> None:
    train(teacher_config("train.steps=1", "schedule.kind=cosine"), runs=tmp_path, name="teacher")
    with pytest.raises(RequestError, match=words):
        distilled(tmp_path / "teacher", tmp_path, *sets)
    assert not (tmp_path / "fast").exists()


def test_what_was_distilled_is_not_distilled_again(runs: Path, tmp_path: Path) -> None:
    run = distilled(runs / "plain", tmp_path, steps=1)
    with pytest.raises(ConfigError, match="is a consistency model already") as refused:
        distill_run(run.path, runs=tmp_path, name="faster")
    assert str(latest_checkpoint(RunDirectory(runs / "plain")).path.absolute()) in refused.value.remedy
    assert not (tmp_path / "faster").exists()


def test_a_consistency_model_starts_no_other_one_by_its_own_loss(runs: Path, tmp_path: Path) -> None:
    """`train --from` takes its objective over, and what it says is no teacher's estimate."""
    run = distilled(runs / "plain", tmp_path, steps=1)
    config = read_config(run)
    again = config.model_copy(update={"start": StartConfig(weights=run.path)})
    with pytest.raises(ConfigError, match="is a consistency model already"):
        train(again, runs=tmp_path, name="again")
    assert not (tmp_path / "again").exists()


def test_what_is_set_is_checked_as_for_any_training(runs: Path, tmp_path: Path) -> None:
    """A config that names a guide could not be read again."""
    with pytest.raises(ConfigError, match="has no place in a training"):
        distilled(runs / "plain", tmp_path, "sample.guide.model=other@3")
    assert not (tmp_path / "fast").exists()


def test_under_a_launcher_it_goes_on_with_what_it_began(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a launch")
    with pytest.raises(RequestError, match="must be told the run"):
        distill_run(None, runs=runs, name="fast")
    with pytest.raises(InterruptedRunError):
        distilled(runs / "plain", tmp_path, on_event=stop_at(3))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    run = distilled(runs / "plain", tmp_path)
    assert latest_checkpoint(run).step == STEPS


def test_the_held_out_loss_is_that_of_the_trajectories_that_are_trained(runs: Path, tmp_path: Path) -> None:
    """A rate of next to nothing leaves the weights equal, so that the ends alone differ."""
    slow = ("optimizer.lr=1e-30",)
    at_images, at_teacher = (
        read_rows(distilled(runs / "plain", tmp_path / ends, *slow, f"objective.loss.ends={ends}", steps=1).metrics_log)[-1]
        for ends in ("images", "teacher")
    )
    assert at_images["held_out_loss"] != at_teacher["held_out_loss"]


def test_the_patience_of_a_teacher_is_not_taken_over(runs: Path, tmp_path: Path) -> None:
    train(teacher_config("train.patience=5"), runs=tmp_path, name="patient")
    assert read_config(distilled(tmp_path / "patient", tmp_path, steps=1)).train.patience is None


def test_without_a_budget_it_takes_three_fifths_of_the_teachers(runs: Path, tmp_path: Path) -> None:
    plan = distill_run(runs / "plain", runs=tmp_path, name="fast", dry_run=True)
    assert plan is not None
    assert getattr(plan, "total_steps", None) == 6
    assert not (tmp_path / "fast").exists()
