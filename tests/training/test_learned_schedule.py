"""A run with a learned schedule: what is trained, what is kept, and that a resumed run ends with the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from interrupted_runs import stop_at
from tiny_configs import tiny_config

from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.schema.config import Config
from ddpm_cli.errors import InterruptedRunError
from ddpm_cli.runs.checkpoints import latest_checkpoint
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.generate import load_trained
from ddpm_cli.training.train import resume, train

STEPS = 10
GROUPS = ("model", "ema", "optimizer", "schedule", "schedule-optimizer")
MODES: dict[str, list[str]] = {
    "fixed endpoints": [],
    "learned endpoints, v, accumulation": [
        "schedule.endpoint_range=1",
        "objective.parameterization=v",
        "train.micro_batch_size=3",
    ],
    "vlb": ["objective.loss=vlb"],
}


def tiny(*sets: str) -> Config:
    return tiny_config(
        "schedule.kind=learned",
        "schedule.timesteps=100",
        "model.dropout=0.2",
        "checkpoint.every=4",
        f"train.steps={STEPS}",
        *sets,
    )


def final_tensors(runs: Path) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(RunDirectory(runs / "run"))
    assert checkpoint.step == STEPS
    return {f"{group}/{k}": v for group in GROUPS for k, v in checkpoint.tensors(group).items()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {mode: tmp_path_factory.mktemp("whole") for mode in MODES}
    for mode, sets in MODES.items():
        train(tiny(*sets), runs=folders[mode], name="run")
    return folders


@pytest.mark.parametrize("step", [2, 7])
@pytest.mark.parametrize("mode", MODES)
def test_a_stopped_run_ends_with_the_same_bits(mode: str, step: int, tmp_path: Path, uninterrupted: dict[str, Path]) -> None:
    with pytest.raises(InterruptedRunError):
        train(tiny(*MODES[mode]), runs=tmp_path, name="run", on_event=stop_at(step))
    resume(tmp_path / "run")
    whole, ours = final_tensors(uninterrupted[mode]), final_tensors(tmp_path)
    assert whole.keys() == ours.keys()
    assert [name for name in whole if not torch.equal(whole[name], ours[name])] == []
    schedules = [load_trained(folder / "run", torch.device("cpu")).schedule for folder in (uninterrupted[mode], tmp_path)]
    assert np.array_equal(schedules[0].betas, schedules[1].betas)


def test_training_moves_the_schedule_and_accumulation_does_not_change_how(tmp_path: Path, uninterrupted: dict[str, Path]) -> None:
    start = build_schedule(tiny().schedule)
    trained = load_trained(uninterrupted["fixed endpoints"] / "run", torch.device("cpu")).schedule
    assert np.abs(trained.half_logsnr - start.half_logsnr).max() > 1e-3
    assert trained.half_logsnr[[0, -1]].tolist() == pytest.approx(start.half_logsnr[[0, -1]].tolist(), abs=1e-6)

    for name, sets in (("whole", []), ("parts", ["train.micro_batch_size=3"])):
        train(tiny("model.dropout=0", "train.steps=3", *sets), runs=tmp_path / name, name="run")
    whole, parts = (load_trained(tmp_path / name / "run", torch.device("cpu")).schedule for name in ("whole", "parts"))
    np.testing.assert_allclose(parts.half_logsnr, whole.half_logsnr, rtol=0, atol=1e-4)
