"""Steps whose numbers are lost: told of with their images, and without a trace in the weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_configs import tiny_config
from torch import Tensor

from ddpm_cli.config.schema.config import Config
from ddpm_cli.config.schema.objective import ObjectiveConfig
from ddpm_cli.core.compute import team
from ddpm_cli.core.compute.seeds import generator
from ddpm_cli.data.batches import Batches
from ddpm_cli.diffusion.objectives.timestep_draws import draw_timesteps
from ddpm_cli.errors import DivergedError
from ddpm_cli.results.events import Event, Notice, TrainSummary
from ddpm_cli.runs.checkpoints import list_checkpoints, load_checkpoint
from ddpm_cli.runs.metrics_log import read_rows
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.training import health, trainer
from ddpm_cli.training import train as engine

Fault = Callable[[int, Tensor, Tensor], Tensor]


def tiny(*sets: str) -> Config:
    return tiny_config(
        "model.channel_mult=[1]",
        "train.log_every=1",
        "train.eval_images=4",
        "checkpoint.every=1",
        "checkpoint.keep_last=20",
        *sets,
    )


def plant(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """Let `fault` change the losses of each training pass: it gets the number of the pass, from 0, the losses and t."""
    original = ObjectiveConfig.build_loss

    def build(*arguments: Any) -> Any:
        loss, passes = original(*arguments), iter(range(10**6))

        def faulty(network: Any, x_0: Tensor, t: Tensor, *rest: Any) -> Tensor:
            losses = loss(network, x_0, t, *rest)
            return fault(next(passes), losses, t) if torch.is_grad_enabled() else losses

        return faulty

    monkeypatch.setattr(ObjectiveConfig, "build_loss", build)


def run_of(folder: Path, config: Config) -> RunDirectory:
    engine.train(config, runs=folder, name="run")
    return RunDirectory(folder / "run")


def tensors(run: RunDirectory, step: int, *groups: str) -> dict[str, Tensor]:
    checkpoint = load_checkpoint(run.checkpoints_folder / f"step-{step:08d}")
    return {f"{group}/{name}": value for group in groups for name, value in checkpoint.tensors(group).items()}


def differing(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[str]:
    assert first.keys() == second.keys()
    return [name for name in first if not torch.equal(first[name], second[name])]


@pytest.mark.parametrize(
    ("sets", "groups"),
    [
        ([], ("model", "ema", "optimizer")),
        (["schedule.kind=learned"], ("model", "ema", "optimizer", "schedule", "schedule-optimizer")),
    ],
)
def test_one_image_without_a_loss_is_named_and_its_step_changes_nothing(
    sets: list[str], groups: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of 8 come in passes of 3, 3 and 2: row 1 of pass 10 is image 4 of step 3, counted from 0."""
    config = tiny("train.steps=5", "train.micro_batch_size=3", *sets)
    clean = run_of(tmp_path / "clean", config)

    def fault(number: int, losses: Tensor, t: Tensor) -> Tensor:
        return losses * torch.tensor([1.0, float("nan"), 1.0]) if number == 10 else losses

    plant(monkeypatch, fault)
    run = run_of(tmp_path / "faulty", config)
    (incident,) = read_rows(run.incidents_log)
    t = draw_timesteps("uniform", 8, 1000, generator(torch.device("cpu"), 0, "noise", 3), "cpu")
    batches = Batches(torch.zeros(40, 1, 1, 1, dtype=torch.uint8), batch_size=8, seed=0)
    assert (incident["kind"], incident["step"], incident["loss"], incident["affected"]) == ("non-finite", 4, None, 1)
    assert incident["timesteps"] == [int(t[4])]
    assert incident["images"] == [int(batches.indices(3)[4])]
    assert differing(tensors(run, 3, *groups), tensors(run, 4, *groups)) == []
    assert differing(tensors(clean, 3, *groups), tensors(run, 4, *groups)) == []
    assert differing(tensors(run, 4, "model"), tensors(run, 5, "model")) != []
    assert differing(tensors(clean, 4, "model"), tensors(run, 4, "model")) != []
    assert read_rows(run.metrics_log)[-1]["non_finite_steps"] == 1


def test_a_gradient_that_is_not_finite_names_the_images_with_the_largest_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, lambda number, losses, t: losses + torch.sqrt(0.0 * losses) if number == 2 else losses)
    run = run_of(tmp_path, tiny("train.steps=4"))
    (incident,) = read_rows(run.incidents_log)
    assert (incident["kind"], incident["step"], incident["grad_norm"]) == ("non-finite", 3, None)
    assert incident["loss"] > 0
    assert len(incident["images"]) == len(incident["timesteps"]) == trainer.SUSPECTS
    assert differing(tensors(run, 2, "model", "ema", "optimizer"), tensors(run, 3, "model", "ema", "optimizer")) == []


def test_a_resumed_run_logs_the_same_incidents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults that depend on t alone come again after a resume; the window of the last losses has to as well."""
    monkeypatch.setattr(health, "LEAST_LOSSES", 3)

    def fault(number: int, losses: Tensor, t: Tensor) -> Tensor:
        return torch.where(t < 12, float("nan"), torch.where(t > 985, 1000.0 * losses, losses))

    plant(monkeypatch, fault)
    whole = run_of(tmp_path / "whole", tiny("train.steps=24"))
    parts = run_of(tmp_path / "parts", tiny("train.steps=7"))
    for steps in (11, 24):
        with parts.incidents_log.open("a") as log:  # a kill between two checkpoints, in the middle of a line
            log.write(json.dumps({"step": 99, "kind": "spike"}) + '\n{"step": 100, "ki')
        summary = engine.resume(parts.path, budget={"steps": steps})
    rows = read_rows(whole.incidents_log)
    assert {row["kind"] for row in rows} == {"non-finite", "spike"}
    assert parts.incidents_log.read_bytes() == whole.incidents_log.read_bytes()
    assert summary is not None
    assert sum(summary.incidents.values()) == len(rows)
    states = [load_checkpoint(run.checkpoints_folder / "step-00000024").state for run in (whole, parts)]
    assert states[0]["health"] == states[1]["health"]


@pytest.mark.parametrize("keep_last", [1, 2])
def test_the_checkpoint_gone_back_to_is_the_last_that_a_good_step_followed(
    keep_last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With checkpoints at all steps and trouble from step 6 on, that of step 5 made the trouble, and that of step 4 did not."""
    plant(monkeypatch, lambda number, losses, t: losses * float("nan") if number >= 5 else losses)
    with pytest.raises(DivergedError, match=r"went back to its checkpoint of step 4\.") as diverged:
        engine.train(tiny("train.steps=40", f"checkpoint.keep_last={keep_last}"), runs=tmp_path, name="run")
    run = RunDirectory(tmp_path / "run")
    assert [path.name for path in list_checkpoints(run)] == ["step-00000004"]
    aside = sorted(path.name for path in run.checkpoints_folder.glob("diverged-*"))
    assert set(aside) >= {f"diverged-step-{step:08d}" for step in (13, 14)[-keep_last:]}
    assert all(name in diverged.value.message for name in aside)
    assert [load_checkpoint(run.checkpoints_folder / name).step for name in aside] == [int(name[-8:]) for name in aside]
    rollback = read_rows(run.incidents_log)[-1]
    assert (rollback["kind"], rollback["step"], rollback["from_step"]) == ("rollback", 4, 15)


@pytest.mark.parametrize(("last", "told"), [(100, True), (12, False)])
def test_a_loss_that_does_not_come_back_is_told_of_at_the_end(
    last: int, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint from before the leap at step 7 is kept beyond the newest two, as long as the trouble lasts."""
    monkeypatch.setattr(health, "LEAST_LOSSES", 3)
    plant(monkeypatch, lambda number, losses, t: 1000.0 * losses if 6 <= number < last else losses)
    notices: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Notice) and event.important:
            notices.append(event.message)

    engine.train(tiny("train.steps=30", "checkpoint.keep_last=2"), runs=tmp_path, name="run", on_event=listen)
    steps = [load_checkpoint(path).step for path in list_checkpoints(RunDirectory(tmp_path / "run"))]
    assert set(steps) >= {29, 30}
    if told:
        assert notices == [
            "The loss left its range at step 7 and has not come back; the last checkpoint from before is that of step 5. "
            "Try again with a lower optimizer.lr."
        ]
        assert 5 in steps
    else:
        assert notices == []


def test_where_no_checkpoint_is_good_all_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, lambda number, losses, t: losses * float("nan"))
    with pytest.raises(DivergedError, match="No checkpoint from before the trouble is left") as diverged:
        engine.train(tiny("train.steps=40", "checkpoint.keep_last=2"), runs=tmp_path, name="run")
    run = RunDirectory(tmp_path / "run")
    assert [path.name for path in run.checkpoints_folder.iterdir() if path.name.startswith("diverged")] == []
    assert [load_checkpoint(path).step for path in list_checkpoints(run)] == [
        1,
        8,
        9,
    ]  # the first still has the initial weights, and is the best
    assert f"ddpm train --config {run.path}/config.toml --set optimizer.lr=0.0001" in diverged.value.remedy


def test_overflow_under_a_gradient_scaler_is_counted_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scale that is far too high at first, as in fp16 on CUDA: steps are skipped until it fits, and none of them is a failure."""
    plant(monkeypatch, lambda number, losses, t: 1e4 * losses)
    original = team.make_accelerator

    def scaled(*arguments: Any) -> Any:
        accelerator = original(*arguments)
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=10**6)
        # What Accelerate does where it was asked for fp16, which needs CUDA.
        accelerator.unscale_gradients = lambda: accelerator.scaler.unscale_(accelerator._optimizers[0].optimizer)
        return accelerator

    monkeypatch.setattr(team, "make_accelerator", scaled)
    summary = engine.train(tiny("train.steps=30"), runs=tmp_path, name="run")
    assert isinstance(summary, TrainSummary)
    overflows = summary.incidents["overflow"]
    assert 0 < overflows < 29
    assert summary.incidents == {"overflow": overflows}
    assert summary.non_finite_steps == 0
    run = RunDirectory(tmp_path / "run")
    assert [row["step"] for row in read_rows(run.incidents_log)] == list(range(1, overflows + 1))
    assert "non_finite_steps" not in read_rows(run.metrics_log)[-1]


def test_an_image_whose_level_lies_between_steps_is_named_with_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def fault(number: int, losses: Tensor, t: Tensor) -> Tensor:
        drawn.append(t)
        return losses * float("nan") if number == 1 else losses

    plant(monkeypatch, fault)
    run = run_of(tmp_path, tiny("train.steps=3", "objective.parameterization=edm", "objective.timesteps=log-normal"))
    (incident,) = read_rows(run.incidents_log)
    _, of_the_step, _ = drawn[-3:]  # passes before them are rehearsed
    assert of_the_step.is_floating_point()
    assert set(incident["timesteps"]) <= {round(float(t)) for t in of_the_step}
    assert all(isinstance(t, int) for t in incident["timesteps"])
