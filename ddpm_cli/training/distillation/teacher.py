"""Find the model that another one is distilled from, and read its weights. Imports no torch before these are read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.config.schema.objective import ConsistencyLoss, TeacherConfig
from ddpm_cli.config.schema.schedule import LearnedSchedule
from ddpm_cli.core.io.files import input_errors, open_regular
from ddpm_cli.core.io.paths import path_text, shell_word
from ddpm_cli.errors import CheckpointError, ConfigError, DataError, DdpmError, RunError
from ddpm_cli.results.events import Listener, ignore
from ddpm_cli.runs.model_file import load_model_file
from ddpm_cli.sampling.stored import require_data
from ddpm_cli.sampling.stored_model import StoredModel, find_model

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm_cli.config.schema.config import Config

ANOTHER = "Distil another run, or train one first: ddpm train --preset quick"


@dataclass(frozen=True)
class Teacher:
    """Hold a model that another one is distilled from.

    Attributes:
        model: It, with its averaged weights.
        sha256: Of the file with these.
    """

    model: StoredModel
    sha256: str

    @property
    def named(self) -> TeacherConfig:
        """Name it as the config of the other does."""
        return TeacherConfig(path=self.model.origin.absolute(), step=self.model.step, sha256=self.sha256)

    def weights(self) -> Mapping[str, Tensor]:
        """Read its averaged weights.

        Raises:
            CheckpointError: If they cannot be read.
        """
        if self.model.checkpoint is not None:
            return self.model.checkpoint.tensors("ema")
        return load_model_file(self.model.origin)[0]


def find_teacher(path: Path | None, runs: Path = Path("runs"), on_event: Listener = ignore) -> Teacher:
    """Find a model that can be distilled; of a run that still trains, its newest checkpoint.

    Args:
        path: See `find_model`.
        runs: The folder of runs.
        on_event: Told of damaged checkpoints that were passed over.
    Raises:
        RunError: If there is no such run, or it has no complete checkpoint or no data.
        CheckpointError: If it is damaged.
        ConfigError: If nothing can be distilled from it, saying why.
    """
    model = find_model(path, runs=runs, on_event=on_event)
    require_data(model.config, model.origin)
    _require_distillable(model)
    return Teacher(model, _sha256(model))


def with_teacher(config: Config) -> tuple[Config, Teacher | None]:
    """Find the teacher that a config names, and name it by its full path, step and sum; None if it names none.

    Raises:
        RunError: If it is not there, or no longer the same.
        ConfigError: If the config is not for its weights, saying why.
    """
    loss = config.objective.loss
    if not isinstance(loss, ConsistencyLoss) or loss.teacher.path is None:
        return config, None
    named, path = loss.teacher, loss.teacher.path
    try:
        model = find_model(path)
        sha256 = _sha256(model)
    except DdpmError as error:
        message = f"The teacher {path_text(path)} cannot be read any more: {error.message}"
        raise RunError(message, "Put it back, or distil its run again: ddpm distill RUN") from error
    if named.sha256 not in (None, sha256):
        raise RunError(
            f"The teacher {path_text(path)} holds other weights than those that this config was made for.",
            "Distil it anew: ddpm distill RUN",
        )
    _require_same(config, model)
    teacher = Teacher(model, sha256)
    objective = config.objective.model_copy(update={"loss": loss.model_copy(update={"teacher": teacher.named})})
    return config.model_copy(update={"objective": objective}), teacher


@dataclass(frozen=True)
class Start:
    """Hold the weights that training starts from.

    Attributes:
        weights: Of the network.
        origin: Where they came from.
        sha256: Of the file that they came from.
    """

    weights: Mapping[str, Tensor]
    origin: Path
    sha256: str


def starting_weights(teacher: Teacher, config: Config, image_shape: tuple[int, int, int]) -> Start:
    """Read the weights of a teacher, after they were found to fit the network of a config, for images of this shape.

    Raises:
        DataError: If the images have another shape than the teacher's.
        CheckpointError: If the weights are another network's, or damaged.
    """
    if teacher.model.image_shape != image_shape:
        sizes = [f"{channels} x {height} x {width}" for channels, height, width in (image_shape, teacher.model.image_shape)]
        raise DataError(f"The images are {sizes[0]}, but those of the teacher {sizes[1]}.", "Distil on the teacher's own data.")
    import torch

    from ddpm_cli.build.network import build_network
    from ddpm_cli.core.compute.weights import check_weights

    start = Start(teacher.weights(), teacher.model.origin, teacher.sha256)
    with torch.device("meta"):
        check_weights(build_network(config, image_shape), start.weights, start.origin)
    return start


def _require_distillable(model: StoredModel) -> None:
    """Refuse what a consistency model cannot be made of."""
    objective, origin = model.config.objective, model.origin
    if isinstance(objective.loss, ConsistencyLoss):
        own = objective.loss.teacher.path
        again = f", or distil its teacher again: ddpm distill {shell_word(own)}" if own else ""
        raise ConfigError(f"{origin} is a consistency model already: there is nothing to distil.", f"Go on with its run{again}")
    if isinstance(model.config.schedule, LearnedSchedule):
        raise ConfigError(f"{origin} has a learned schedule, and distilling needs one that stays as it is.", ANOTHER)
    if not objective.parameterization.keeps_images:
        kind = objective.parameterization.kind
        message = (
            f'{origin} predicts "{kind}". Its estimate of an image without noise need not be that image, as distilling needs it.'
        )
        raise ConfigError(message, 'Train a teacher with objective.parameterization = "v".')
    if objective.reverse_variance == "learned-range":
        message = f"{origin} has learned the variance of its steps, of which a consistency model has no use."
        raise ConfigError(message, 'Train a teacher with objective.loss = "simple".')


def _require_same(config: Config, model: StoredModel) -> None:
    """Refuse to give the teacher's weights another meaning."""
    theirs = model.config
    parts = {
        "schedule": (config.schedule, theirs.schedule),
        "objective.parameterization": (config.objective.parameterization, theirs.objective.parameterization),
    }
    for name, (ours, other) in parts.items():
        if ours != other:
            raise ConfigError(
                f"{name} is not that of the teacher {model.origin}: {_told(ours, other)}.", "Leave it out: it is the teacher's."
            )


def _told(ours: object, theirs: object) -> str:
    kinds = [getattr(part, "kind", "") for part in (ours, theirs)]
    return f'"{kinds[0]}", not "{kinds[1]}"' if kinds[0] != kinds[1] else f"{ours}, not {theirs}"


def _sha256(model: StoredModel) -> str:
    """Sum the file with a model's averaged weights."""
    path = model.origin if model.checkpoint is None else model.origin / "ema.safetensors"
    if not path.exists():
        raise CheckpointError(f"{model.origin} has no ema tensors.", ANOTHER)
    with input_errors(path, CheckpointError, ANOTHER), open(open_regular(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
