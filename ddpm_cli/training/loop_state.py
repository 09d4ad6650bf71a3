"""Give the state of a training loop that has not begun."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddpm_cli.training.health import Health
from ddpm_cli.training.loss_meter import LossMeter
from ddpm_cli.training.progress import Progress

if TYPE_CHECKING:
    from ddpm_cli.data.images import Dataset


def state_before_training(image_shape: tuple[int, int, int], dataset: Dataset | None) -> dict[str, Any]:
    """Give what `loop.loop_state` would of a training that has not begun.

    Args:
        image_shape: Channels, height and width.
        dataset: Its data; None where they are not known yet.
    """
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
        **Progress().state(),
    }
