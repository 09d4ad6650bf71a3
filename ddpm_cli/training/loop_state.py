"""What a checkpoint holds of a training loop besides its trainer, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddpm_cli.runs.launch_record import launch
from ddpm_cli.training.health import Health
from ddpm_cli.training.loss_meter import LossMeter
from ddpm_cli.training.state import restore_training, training_state

if TYPE_CHECKING:
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.runs.checkpoints import Checkpoint
    from ddpm_cli.training.loop import TrainingLoop


def loop_state(loop: TrainingLoop) -> dict[str, Any]:
    """Everything of a loop and its trainer that is no tensor."""
    return training_state(loop.trainer) | {
        "launch": launch(loop.accelerator, compiled=loop.trainer.is_compiled),
        "seconds": loop.seconds(),
        "after_step_is_due": loop.after_step_is_due,
        "data_sha256": loop.data_sha256,
        "class_names": list(loop.class_names),
        "history": loop.history,
        "last_loss": loop.last_loss,
        "last_held_out_loss": loop.held_out_loss,
        "best_held_out_loss": loop.best_held_out_loss,
        "held_out_step": loop.held_out_step,
        "best_saved_loss": loop.best_saved_score,
    }


def state_before_training(image_shape: tuple[int, int, int], dataset: Dataset | None) -> dict[str, Any]:
    """The same of a training that has not begun; None stands for data that are not known yet."""
    return {
        "step": 0,
        "image_shape": list(image_shape),
        "data_sha256": dataset.sha256 if dataset else "",
        "class_names": list(dataset.train.class_names) if dataset else [],
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


def restore_loop(loop: TrainingLoop, checkpoint: Checkpoint) -> None:
    """Have a fresh loop go on from a checkpoint.

    Raises:
        CheckpointError: If it holds another architecture.
    """
    restore_training(loop.trainer, checkpoint)
    state = checkpoint.state
    loop.saved_step = checkpoint.step
    loop.after_step_is_due = state.get("after_step_is_due", False)
    loop.seconds_before = state["seconds"]
    loop.trainer.share = loop.trainer.budget.share(loop.trainer.step, loop.seconds_before)
    loop.history = list(state["history"])
    loop.last_loss = state["last_loss"]
    loop.held_out_loss = state["last_held_out_loss"]
    loop.best_held_out_loss = state["best_held_out_loss"]
    loop.best_saved_score = state["best_saved_loss"]
    loop.held_out_step = state["held_out_step"]
