"""Runs that are stopped and go on, to be compared with those that are not."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

from tiny_configs import NETWORK, tiny_config

from ddpm_cli.config.schema.config import Config
from ddpm_cli.results.events import Event, Listener, TrainProgress


def tiny(*sets: str, steps: int = 12, network: Mapping[str, Any] = NETWORK) -> Config:
    """A run that crosses epochs of 40 images in batches of 8, with logs, held-out losses and checkpoints on the way."""
    schedule = ("train.log_every=3", "train.eval_every=5", "checkpoint.every=4", f"train.steps={steps}")
    return tiny_config("model.dropout=0.2", *schedule, *sets, network=network)


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a log without what differs each time."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def stop_at(step: int) -> Listener:
    """Send a signal after one step, which is acted upon after the next, or before, if work that takes long was due."""

    def listen(event: Event) -> None:
        if isinstance(event, TrainProgress) and event.step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    return listen
