"""A run that was stopped and resumed equals one that was not, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from best_checkpoints import best_checkpoint
from interrupted_runs import stop_at, tiny, without_times
from tiny_configs import DIT, NETWORK

from ddpm_cli.build.data import build_dataset
from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.data.images import Dataset
from ddpm_cli.errors import DataError, InterruptedRunError
from ddpm_cli.results.events import Event, Notice, TrainProgress
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.metrics_log import read_rows
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.generate import load_trained
from ddpm_cli.training.metrics import TrainingMetrics
from ddpm_cli.training.train import resume, train

pytestmark = pytest.mark.usefixtures("cache_of_its_own")
STEPS = 12  # of 8 images out of 40: the run crosses two epochs
MODES: dict[str, list[str]] = {
    "plain": [],
    "accumulation": ["train.micro_batch_size=3"],
    "stratified, v, falling lr": [
        "objective.timesteps=stratified",
        "objective.parameterization=v",
        "optimizer.decay=cosine",
        "optimizer.warmup_steps=3",
    ],
    "metrics of samples": ["train.evaluate_every=3", "train.evaluate_n=4", "checkpoint.best_by=fcd"],
    "flips, adamw": ["data.horizontal_flip=true", "optimizer.kind=adamw", "optimizer.weight_decay=0.01"],
}

# Each of these is stopped once, in the middle of an epoch.
VLB = "objective.loss=vlb"
MORE_MODES: dict[str, list[str]] = {
    "logit-normal, linear, weight of SNR": [
        "objective.timesteps=logit-normal",
        "optimizer.decay=linear",
        "objective.weighting=snr",
    ],
    "log-normal, edm": ["objective.timesteps=log-normal", "objective.parameterization=edm"],
    "loss-aware, vlb": ["objective.timesteps={kind='loss-aware', history=1}", VLB, "schedule.timesteps=6"],
    "stratified, x0, min-snr": ["objective.timesteps=stratified", "objective.parameterization=x0", "objective.weighting=min-snr"],
    "hybrid": ["objective.loss=hybrid", "optimizer.decay=cosine", "optimizer.final_lr_share=0.1"],
    "learned schedule": ["schedule.kind=learned", VLB],
    "learned schedule with its endpoints": ["schedule={kind='learned', endpoint_range=1.0}", VLB, "train.micro_batch_size=3"],
    "labels": ["model.num_classes=auto", "objective.label_dropout=0.3", "train.micro_batch_size=5"],
    "laplace, chosen noise": ["objective.timesteps=laplace", "objective.noise_candidates=3", "train.micro_batch_size=3"],
    "learned weighting, noise by optimal transport": [
        "objective.weighting=learned",
        "objective.coupling=optimal-transport",
        "model.num_classes=auto",
        "train.micro_batch_size=3",
    ],
    "autoguidance": [
        "objective.autoguidance={scale=2, kept_at=0.2, start=0.6}",
        "model.num_classes=auto",
        "train.micro_batch_size=3",
    ],
    "muon": ["optimizer.kind=muon", "optimizer.decay=linear", "train.micro_batch_size=3"],
    "warm-up, ema without": ["optimizer.warmup_steps=5", "ema.warmup=false", "train.max_grad_norm=none"],
    "flips and dropout in parts": ["data.horizontal_flip=true", "train.micro_batch_size=3", "model.dropout=0.5"],
    "autoguidance of augmented images": ["objective.autoguidance={scale=2, kept_at=0.2, start=0.6}", "data.augment=0.5"],
    "augmented": ["data.augment=0.5", "model.num_classes=auto", "train.micro_batch_size=3", "data.horizontal_flip=true"],
    "deterministic": ["train.deterministic=true", "model.attention_resolutions=[7]"],
}
DIT_MODES: dict[str, list[str]] = {
    "transformer, muon, labels": ["optimizer.kind=muon", "model.num_classes=auto", "model.registers=2", "train.micro_batch_size=3"],
    "transformer, edm, augmented": ["objective.parameterization=edm", "objective.timesteps=log-normal", "data.augment=0.5"],
}
FEW_STEPS = 8


def final_state(runs: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    checkpoint = latest_checkpoint(RunDirectory(runs / "run"))
    assert checkpoint.step == STEPS
    tensors = {f"{group}/{k}": v for group in ("model", "ema", "optimizer") for k, v in checkpoint.tensors(group).items()}
    return tensors, checkpoint.state


def everything(runs: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """All tensors of the last checkpoint, and its state but for times."""
    checkpoint = latest_checkpoint(RunDirectory(runs / "run"))
    assert checkpoint.step == FEW_STEPS
    groups = [path.stem for path in checkpoint.path.glob("*.safetensors")]
    tensors = {f"{group}/{name}": value for group in groups for name, value in checkpoint.tensors(group).items()}
    state = {key: value for key, value in checkpoint.state.items() if key != "seconds"}
    return tensors, state | {"history": without_times(state["history"])}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for mode, sets in MODES.items():
        folders[mode] = tmp_path_factory.mktemp("whole")
        train(tiny(*sets), runs=folders[mode], name="run")
    return folders


def test_metrics_of_training_are_of_the_averaged_weights(uninterrupted: dict[str, Path]) -> None:
    run = uninterrupted["metrics of samples"] / "run"
    config, cpu = tiny(*MODES["metrics of samples"]), torch.device("cpu")
    metrics = TrainingMetrics(config, build_dataset(config.data), make_accelerator("cpu", "fp32"))
    averaged, last = (metrics.values(metrics.draw(load_trained(run, cpu, ema=ema)))["fcd"] for ema in (True, False))
    assert read_rows(run / "metrics.jsonl")[-1]["fcd"] == averaged != last


@pytest.mark.parametrize(
    ("mode", "step"),
    [
        *(("plain", step) for step in (2, 4, 7, 11)),
        ("accumulation", 7),
        ("stratified, v, falling lr", 2),  # before the warm-up is over
        ("metrics of samples", 4),
        ("flips, adamw", 7),
    ],
)
def test_a_stopped_run_ends_with_the_same_bits(mode: str, step: int, tmp_path: Path, uninterrupted: dict[str, Path]) -> None:
    with pytest.raises(InterruptedRunError) as stopped:
        train(tiny(*MODES[mode]), runs=tmp_path, name="run", on_event=stop_at(step))
    assert stopped.value.exit_status == 143
    assert latest_checkpoint(RunDirectory(tmp_path / "run")).step in (step - 1, step)
    resume(tmp_path / "run")

    whole, whole_state = final_state(uninterrupted[mode])
    ours, our_state = final_state(tmp_path)
    assert whole.keys() == ours.keys()
    assert [name for name in whole if not torch.equal(whole[name], ours[name])] == []
    for key in ("ema_updates", "loss_sums", "loss_steps", "best_held_out_loss", "best_saved_loss", "last_loss"):
        assert our_state[key] == whole_state[key], key
    rows, whole_rows = (read_rows(folder / "run" / "metrics.jsonl") for folder in (tmp_path, uninterrupted[mode]))
    assert without_times(rows) == without_times(whole_rows)


@pytest.mark.parametrize("mode", MORE_MODES | DIT_MODES)
def test_every_mode_goes_on_in_the_middle_of_an_epoch_with_the_same_bits(mode: str, tmp_path: Path) -> None:
    sets, network = (MORE_MODES | DIT_MODES)[mode], DIT if mode in DIT_MODES else NETWORK
    config = tiny(*sets, "train.eval_every=100", "checkpoint.every=100", steps=FEW_STEPS, network=network)
    train(config, runs=tmp_path / "whole", name="run")
    with pytest.raises(InterruptedRunError):
        train(config, runs=tmp_path / "parts", name="run", on_event=stop_at(3))
    resume(tmp_path / "parts" / "run")
    (whole, whole_state), (parts, parts_state) = everything(tmp_path / "whole"), everything(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assert parts_state == whole_state


def test_measuring_samples_leaves_training_alone_and_is_logged(uninterrupted: dict[str, Path]) -> None:
    plain, measured = (final_state(uninterrupted[mode])[0] for mode in ("plain", "metrics of samples"))
    assert [name for name in plain if not torch.equal(plain[name], measured[name])] == []
    rows = read_rows(uninterrupted["metrics of samples"] / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows if "fcd" in row] == [3, 6, 9, 12]
    assert all(row["fcd"] > 0 for row in rows if "fcd" in row)
    assert not any("fcd" in row for row in read_rows(uninterrupted["plain"] / "run" / "metrics.jsonl"))


def test_the_best_checkpoint_follows_the_metric(uninterrupted: dict[str, Path]) -> None:
    run = RunDirectory(uninterrupted["metrics of samples"] / "run")
    values = {row["step"]: row["fcd"] for row in read_rows(run.metrics_log) if "fcd" in row}
    best = best_checkpoint(run)
    assert values[best.step] == min(values.values())
    assert final_state(uninterrupted["metrics of samples"])[1]["best_saved_loss"] == min(values.values())


def test_the_comparison_above_can_fail(tmp_path: Path, uninterrupted: dict[str, Path]) -> None:
    """Another seed gives other bits."""
    train(tiny("train.seed=1"), runs=tmp_path, name="run")
    other, whole = final_state(tmp_path)[0], final_state(uninterrupted["plain"])[0]
    assert any(not torch.equal(other[name], whole[name]) for name in whole)


def test_accumulation_gives_the_same_run_as_one_large_pass(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    for name, sets in (("whole", []), ("parts", ["train.micro_batch_size=3"])):
        train(tiny("model.dropout=0", *sets), runs=tmp_path / name, name="run")
    whole, parts = (final_state(tmp_path / name)[0] for name in ("whole", "parts"))
    for name, value in whole.items():
        if name.startswith("model/"):
            torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-5)


def test_a_finished_run_stops_at_once_and_can_be_extended(tmp_path: Path) -> None:
    train(tiny("optimizer.decay=linear", steps=4), runs=tmp_path, name="run")
    notices: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Notice):
            notices.append(event.message)

    assert resume(tmp_path / "run", on_event=listen) is None
    assert "finished at step 4" in notices[0]
    assert "--steps" in notices[0]
    summary = resume(tmp_path / "run", budget={"steps": 8}, on_event=listen)
    assert summary is not None
    assert summary.step == 8
    assert "learning rate now falls (linear) over the new budget" in notices[1]
    assert "goes on from 1.00e-04" in notices[1]  # half of 2e-4 at half of the new budget
    steps = [row["step"] for row in read_rows(tmp_path / "run" / "metrics.jsonl")]
    assert steps == sorted(set(steps))


def test_extending_gives_the_same_bits_as_asking_for_more_at_once(tmp_path: Path, uninterrupted: dict[str, Path]) -> None:
    train(tiny(steps=5), runs=tmp_path, name="run")
    resume(tmp_path / "run", budget={"steps": STEPS})
    whole, ours = final_state(uninterrupted["plain"])[0], final_state(tmp_path)[0]
    assert [name for name in whole if not torch.equal(whole[name], ours[name])] == []


def test_other_data_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tiny(steps=4), runs=tmp_path, name="run")
    from dataclasses import replace

    import ddpm_cli.build.data as module

    original = module.build_dataset

    def changed(*arguments: Any, **options: Any) -> Dataset:
        return replace(original(*arguments, **options), sha256="0" * 64)

    monkeypatch.setattr(module, "build_dataset", changed)
    with pytest.raises(DataError, match="other training images") as refused:
        resume(tmp_path / "run", budget={"steps": 8})
    assert "--data-changed" in refused.value.remedy
    assert "ddpm train --from" in refused.value.remedy


def test_after_a_kill_the_run_goes_on_from_the_checkpoint_before(tmp_path: Path, uninterrupted: dict[str, Path]) -> None:
    """A kill leaves rows after the last checkpoint and a torn line; neither survives."""

    class KilledError(Exception):
        pass

    def kill(event: Event) -> None:
        if isinstance(event, TrainProgress) and event.step == 10:
            raise KilledError

    with pytest.raises(KilledError):
        train(tiny(), runs=tmp_path, name="run", on_event=kill)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as log:
        log.write('{"step": 10, "lo')
    assert latest_checkpoint(RunDirectory(tmp_path / "run")).step == 8
    resume(tmp_path / "run")
    whole, ours = final_state(uninterrupted["plain"])[0], final_state(tmp_path)[0]
    assert [name for name in whole if not torch.equal(whole[name], ours[name])] == []
    rows, whole_rows = (read_rows(folder / "run" / "metrics.jsonl") for folder in (tmp_path, uninterrupted["plain"]))
    assert without_times(rows) == without_times(whole_rows)
