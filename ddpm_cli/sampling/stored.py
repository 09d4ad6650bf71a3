"""Read what a run keeps of itself, without importing torch where that is possible."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_cli.build.network import build_network
from ddpm_cli.config.resolve.loader import from_toml_text, load_config
from ddpm_cli.config.resolve.preset_files import preset_names
from ddpm_cli.config.schema.data import FolderData
from ddpm_cli.config.schema.schedule import LearnedSchedule
from ddpm_cli.core.io.files import UnreadableError, parse_json
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.core.names import meant
from ddpm_cli.errors import CheckpointError, RunError
from ddpm_cli.runs.checkpoint_state import checked_shape
from ddpm_cli.runs.checkpoints import MANIFEST, Checkpoint, latest_checkpoint, load_checkpoint
from ddpm_cli.runs.directory import find_run
from ddpm_cli.runs.model_file import read_model_header
from ddpm_cli.runs.record import read_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.config.schema.schedule import ScheduleConfig


def find_checkpoint(path: Path | None, runs: Path = Path("runs")) -> Checkpoint:
    """Find the newest checkpoint of a run, or the one that is named.

    Args:
        path: A run folder or the name of one below `runs`, or a checkpoint folder; None takes the newest run below `runs`.
        runs: The folder of runs.
    Raises:
        RunError: If there is no such run.
        CheckpointError: If it has no complete checkpoint.
    """
    if path is not None and (path / MANIFEST).is_file():
        return load_checkpoint(path)
    return latest_checkpoint(find_run(runs, path, need_checkpoint=True))


def exported_facts(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Read what an exported file says of its model: `config` as TOML text, `image_shape`, `step`, and `class_names` if any.

    Args:
        path: The file.
        metadata: The text in it.
    Raises:
        CheckpointError: If it was not written by `ddpm export`.
    """
    try:
        facts = parse_json(metadata["ddpm"])
        config_toml, _, _ = facts["config"], facts["image_shape"], facts["step"]
        if not isinstance(facts, dict) or not isinstance(config_toml, str):
            raise UnreadableError("has no config")
    except (KeyError, UnreadableError, TypeError) as error:
        raise CheckpointError(f"{path} was not written by `ddpm export`.", "Export the run again.") from error
    return facts


def named_config(name: str, runs: Path = Path("runs")) -> Config:
    """Read the config that a preset, a file, a checkpoint or a run stands for, in this order of what a name may be.

    Args:
        name: Name of a preset; path of a TOML or an exported `.safetensors` file, or of a checkpoint; run folder or name.
        runs: The folder of runs.
    Raises:
        ConfigError: If the file is no config.
        RunError: If there is nothing of that name.
        CheckpointError: If it is damaged.
    """
    if name in preset_names():
        return load_config(preset=name).config
    path = user_path(name, "CONFIG")
    if (path / MANIFEST).is_file():
        return from_toml_text(load_checkpoint(path).config_toml, str(path))
    if path.is_file():
        return exported_config(path) if path.suffix == ".safetensors" else load_config(file=path).config
    if not os.path.lexists(runs / name) and not os.path.lexists(path) and (preset := meant(name, preset_names())):
        return load_config(preset=preset).config
    return read_config(find_run(runs, name))


def exported_config(path: Path) -> Config:
    """Read the config in an exported file, whose weights are not looked at.

    Raises:
        CheckpointError: If it is no file of `ddpm export`.
        ConfigError: If its config is none.
    """
    return from_toml_text(exported_facts(path, read_model_header(path).metadata)["config"], str(path))


def check_architecture(config: Config, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint whose weights are not those of its config, before a network of that size takes memory or data are read.

    Raises:
        CheckpointError: Naming what differs.
    """
    import torch

    from ddpm_cli.core.compute.weights import check_weights

    image_shape = checked_shape(checkpoint.state["image_shape"], checkpoint.path)
    with torch.device("meta"):
        network = build_network(config, image_shape)
    for weights in ("model", "ema"):
        check_weights(network, checkpoint.tensors(weights), checkpoint.path)


def stored_schedule_weights(checkpoint: Checkpoint, config: ScheduleConfig) -> dict[str, Tensor] | None:
    """Read the weights of a learned schedule's network, None if the schedule is not learned.

    Raises:
        CheckpointError: If they are missing.
    """
    return checkpoint.tensors("schedule") if isinstance(config, LearnedSchedule) else None


def require_data(config: Config, origin: Path) -> None:
    """Refuse to measure or to train a model that was imported without data, see `import_model`.

    Raises:
        RunError: If its config names none; `origin` is what the message names.
    """
    if isinstance(config.data, FolderData) and config.data.root is None:
        raise RunError(
            f"{origin} was imported without data, so that there is nothing to measure it against or to train it on.",
            "Import it again, under another name, with --data.",
        )
