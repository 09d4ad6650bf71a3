"""Gather what a checkpoint holds of a training run, and bring it back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddpm_cli.core.compute.sharding import gathered
from ddpm_cli.core.compute.weights import flatten_optimizer, load_weights, spread_moments, unflatten_optimizer
from ddpm_cli.training.averages.snapshots import GROUP, joined, split
from ddpm_cli.training.health import Health
from ddpm_cli.training.loss_meter import LossMeter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ddpm_cli.data.images import Dataset
    from ddpm_cli.diffusion.objectives.learned_schedule import ScheduleLearner
    from ddpm_cli.runs.checkpoints import Checkpoint
    from ddpm_cli.training.trainer import Trainer

GUIDE = "earlier-self"
"""Group of tensors: the earlier self that autoguidance leads away from."""


def training_tensors(trainer: Trainer) -> dict[str, Mapping[str, Tensor]]:
    """Gather groups of tensors by name: model, ema, optimizer, and what else the run has: averages, a teacher, losses of the past.

    All processes must ask for them; the main one alone gets those that are spread.
    """
    keep = trainer.accelerator.is_main_process
    tensors: dict[str, Mapping[str, Tensor]] = {
        "model": gathered(trainer.model.state_dict(), keep=keep),
        "ema": gathered(trainer.ema.model.state_dict(), keep=keep),
        "optimizer": gathered(flatten_optimizer(trainer.optimizer.state_dict()), keep=keep),
    }
    if trainer.averages:
        tensors[GROUP] = joined(trainer.averages, keep=keep)
    if trainer.guide:
        tensors["teacher"] = trainer.guide.network.state_dict()
    if trainer.learner:
        tensors["schedule"] = trainer.learner.gamma.state_dict()
        tensors["schedule-optimizer"] = flatten_optimizer(trainer.learner.optimizer.state_dict())
    if trainer.uncertainty:
        tensors["uncertainty"] = trainer.uncertainty.network.state_dict()
        tensors["uncertainty-optimizer"] = flatten_optimizer(trainer.uncertainty.optimizer.state_dict())
    if trainer.autoguidance and trainer.autoguidance.guide:
        tensors[GUIDE] = trainer.autoguidance.guide.state_dict()
    if history := trainer.timestep_sampler.state_dict():
        tensors["timesteps"] = history
    return tensors


def training_state(trainer: Trainer) -> dict[str, Any]:
    """Gather everything of a trainer that is no tensor; the trainer must have settled its steps."""
    scaler = trainer.accelerator.scaler
    return {
        "step": trainer.step,
        "image_shape": list(trainer.image_shape),
        "ema_updates": int(trainer.ema.updates),
        "scaler": scaler.state_dict() if scaler is not None else None,
        **trainer.health.state(),
        "grad_norm": trainer.grad_norm,
        **trainer.losses.state(),
    }


def state_before_training(image_shape: tuple[int, int, int], dataset: Dataset | None) -> dict[str, Any]:
    """Return what the checkpoint of a training that has not begun holds beside tensors.

    Args:
        image_shape: Channels, height and width.
        dataset: Its data; None where they are not known yet.
    """
    return {
        "step": 0,
        "image_shape": list(image_shape),
        "data_sha256": dataset.sha256 if dataset else "",
        "class_names": list(dataset.train.class_names) if dataset else [],
        **(dataset.scale.facts() if dataset else {}),
        "ema_updates": 0,
        "scaler": None,
        **Health().state(),
        "grad_norm": 0.0,
        **LossMeter().state(),
        "seconds": 0.0,
        "history": [],
        "last_loss": None,
        "last_held_out_loss": None,
        "best_held_out_loss": None,
        "held_out_step": 0,
        "best_saved_loss": None,
    }


def restore_training(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Put a checkpoint into a fresh trainer of the same config.

    Raises:
        CheckpointError: If it holds another architecture.
    """
    load_weights(trainer.model, checkpoint.tensors("model"), checkpoint.path)
    load_weights(trainer.ema.model, checkpoint.tensors("ema"), checkpoint.path)
    if trainer.averages:
        of_each = split(checkpoint.tensors(GROUP), len(trainer.averages))
        for average, weights in zip(trainer.averages, of_each, strict=True):
            load_weights(average.model, weights, checkpoint.path)
    moments = unflatten_optimizer(checkpoint.tensors("optimizer"), trainer.optimizer)
    trainer.optimizer.load_state_dict(spread_moments(moments, trainer.optimizer.param_groups))
    if trainer.guide:
        load_weights(trainer.guide.network, checkpoint.tensors("teacher"), checkpoint.path)
    if trainer.learner:
        _restore_schedule(trainer.learner, checkpoint)
        trainer.schedule = trainer.learner.schedule
    if trainer.uncertainty:
        load_weights(trainer.uncertainty.network, checkpoint.tensors("uncertainty"), checkpoint.path)
        moments = checkpoint.tensors("uncertainty-optimizer")
        trainer.uncertainty.optimizer.load_state_dict(unflatten_optimizer(moments, trainer.uncertainty.optimizer))
    if trainer.autoguidance and checkpoint.has(GUIDE):
        load_weights(trainer.autoguidance.load(trainer.ema.model), checkpoint.tensors(GUIDE), checkpoint.path)
    if trainer.timestep_sampler.state_dict():
        trainer.timestep_sampler.load_state_dict(checkpoint.tensors("timesteps"))
    state = checkpoint.state
    if trainer.accelerator.scaler is not None and state["scaler"]:
        trainer.accelerator.scaler.load_state_dict(state["scaler"])
    trainer.step = checkpoint.step
    for kept in (trainer.ema, *trainer.averages):
        kept.updates.fill_(state["ema_updates"])
    trainer.health.load(state)
    trainer.grad_norm = state.get("grad_norm", 0.0)
    trainer.losses.load(state)


def _restore_schedule(learner: ScheduleLearner, checkpoint: Checkpoint) -> None:
    load_weights(learner.gamma, checkpoint.tensors("schedule"), checkpoint.path)
    moments = checkpoint.tensors("schedule-optimizer")
    learner.optimizer.load_state_dict(unflatten_optimizer(moments, learner.optimizer))
    learner.refresh()
