"""Find the trained model that a new run takes its first weights from. It imports no torch before weights are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_cli.config.resolve.loader import OpenSource, load_config
from ddpm_cli.config.resolve.toml_text import OF_A_MODEL
from ddpm_cli.core.io.paths import path_text, user_path
from ddpm_cli.errors import RunError
from ddpm_cli.runs.lock import is_locked
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.diffusers.pipeline import Pipeline, find_pipeline, is_pipeline, pipeline_weights
from ddpm_cli.sampling.stored_model import StoredModel, find_model

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm_cli.config.schema.config import Config


@dataclass(frozen=True)
class Source:
    """Hold a model that weights are taken from, as its files tell of it.

    Attributes:
        path: What was named: a run, one of its checkpoints, an exported file, or a folder of diffusers.
        origin: Where its weights lie: the checkpoint or the file, or the folder of diffusers.
        config: What it was trained with.
        image_shape: Channels, height and width of its images.
        class_names: Name of each class that it takes labels of; none if it takes no labels.
        step: Optimizer steps that it was trained for; None for a folder of diffusers, which does not say.
        still_trains: Whether a process works in its run.
        stored: It as a model of ours, or a pipeline.
    """

    path: Path
    origin: Path
    config: Config
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    step: int | None
    still_trains: bool
    stored: StoredModel | Pipeline

    @property
    def called(self) -> str:
        """Say what it is, for people."""
        if self.step is None:
            return f"{self.origin}, a pipeline of diffusers"
        weights = "its exported weights" if self.origin.is_file() else "EMA weights"
        training = ", the newest checkpoint of a run that still trains" if self.still_trains else ""
        return f"{self.origin}{training}: {weights} of step {self.step:,}"


def find_source(path: Path, runs: Path = Path("runs")) -> Source:
    """Find what weights can be taken from, and read all of it but these.

    Args:
        path: A run folder or the name of one below `runs`, a checkpoint, an exported file, or a folder that diffusers saved.
        runs: The folder of runs.
    Raises:
        RequestError: If there is nothing of that kind, it is damaged, or ours cannot be its network.
    """
    if is_pipeline(path) and not (runs / path / "run.json").is_file():
        return _of_pipeline(path)
    if path.is_dir() and not any((path / name).is_file() for name in ("run.json", "manifest.json")) and not (runs / path).is_dir():
        raise RunError(
            f"{path} is a folder, but no run, no checkpoint and no pipeline of diffusers.",
            "Name a run, a checkpoint, a .safetensors file of `ddpm export`, or a folder with model_index.json.",
        )
    model = find_model(path, runs=runs)
    run = None if model.checkpoint is None else RunDirectory(model.origin.parent.parent)
    named = path.absolute() if run is None or path.resolve() == model.origin.resolve() else run.path.absolute()
    names = model.class_names if model.num_classes else ()
    trains = run is not None and is_locked(run)
    return Source(named, model.origin, model.config, model.image_shape, names, model.step, trains, model)


def _of_pipeline(folder: Path) -> Source:
    pipeline = find_pipeline(folder)
    config = load_config(flags={key: (value, str(folder)) for key, value in pipeline.settings.items()}).config
    return Source(folder.absolute(), folder, config, pipeline.image_shape, (), None, False, pipeline)


def find_start(config: Config, runs: Path = Path("runs")) -> Source | None:
    """Find what the weights of a config start from; None if they are random."""
    return None if config.start.weights is None else find_source(config.start.weights, runs)


def source_opener(runs: Path = Path("runs")) -> OpenSource:
    """Make what a config is resolved with, so that start.weights may be the name of a run below `runs`."""
    return partial(_open, runs)


def _open(runs: Path, written: str, origin: str) -> Mapping[str, Any]:
    source = find_source(user_path(written, origin), runs)
    sections = source.config.model_dump(mode="json", include=set(OF_A_MODEL))
    if sections["model"].get("num_classes") is not None:
        sections["model"]["num_classes"] = "auto"
    return {**sections, "start": {"weights": path_text(source.path)}}


@dataclass(frozen=True)
class Weights:
    """Hold the weights of a source, float32 on the CPU.

    Attributes:
        source: Where they were read; another checkpoint than was found first, if a process that trains replaced that.
        network: Of the network, by name.
        schedule: Of a learned schedule; none if it is not learned.
    """

    source: Source
    network: Mapping[str, Tensor]
    schedule: Mapping[str, Tensor]


def read_source(source: Source) -> Weights:
    """Read the weights after they were found to be those of the source's network.

    Raises:
        CheckpointError: If they are damaged.
    """
    if isinstance(source.stored, Pipeline):
        return Weights(source, pipeline_weights(source.stored, source.config), {})
    import torch

    from ddpm_cli.sampling.generate import load_model

    trained = load_model(source.stored, torch.device("cpu"))
    read = replace(source, origin=trained.origin, step=trained.step)
    return Weights(read, trained.network.state_dict(), trained.schedule_weights or {})
