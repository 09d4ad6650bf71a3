"""A trained model as its files tell of it, before its weights are read. Imports no torch.

What is wrong with a request is found out here, in a moment; `generate.load_trained` reads the weights of what was found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_cli.config.loader import from_toml_text
from ddpm_cli.engine.build import resolved_classes
from ddpm_cli.engine.data_used import with_data_of
from ddpm_cli.engine.stored import exported_facts, find_checkpoint
from ddpm_cli.errors import CheckpointError, RunError
from ddpm_cli.events import Listener, Notice, ignore
from ddpm_cli.export.safetensors import read_model_header
from ddpm_cli.runs.checkpoint_state import LARGEST_COUNT
from ddpm_cli.runs.directory import RunDirectory

if TYPE_CHECKING:
    from ddpm_cli.config.schema import Config
    from ddpm_cli.runs.checkpoints import Checkpoint

MOST_VALUES = 2**26
"""Of one image, 4096x4096 with four channels: more would fill the memory before any network does."""
LONGEST_NAME = 1000
"""Characters of a class's name, which are drawn beside pictures."""


@dataclass(frozen=True)
class StoredModel:
    """A run's checkpoint, or an exported file, that can be loaded as far as its config, state and headers tell.

    Attributes:
        origin: The checkpoint or file.
        config: The config that it was trained with.
        image_shape: Channels, height and width of its images.
        step: Optimizer steps that it was trained for.
        class_names: Name of each class of its data.
        ema: Whether its averaged weights are wanted.
        checkpoint: The checkpoint; None for a file.
        runs: The folder of runs that it was looked for in.
        asked: What was asked for.
    """

    origin: Path
    config: Config
    image_shape: tuple[int, int, int]
    step: int
    class_names: tuple[str, ...]
    ema: bool
    checkpoint: Checkpoint | None
    runs: Path
    asked: Path | None

    @property
    def num_classes(self) -> int | None:
        """How many classes its labels are of; None if it takes no labels."""
        return resolved_classes(self.config.model)


def find_model(path: Path | None, *, ema: bool = True, runs: Path = Path("runs"), on_event: Listener = ignore) -> StoredModel:
    """Find a model, and read all of it but its weights.

    Args:
        path: A run folder or the name of one below `runs`, a checkpoint folder, or an exported `.safetensors` file;
            None takes the newest run below `runs`.
        ema: Take the averaged weights, which give better images than the last ones.
        runs: The folder of runs.
        on_event: Told of damaged checkpoints that were passed over.

    Raises:
        RunError: If there is no such run, or it has no complete checkpoint.
        CheckpointError: If the file is damaged.
        ConfigError: If its config is none.
    """
    if path is not None and path.is_file():
        return _of_file(path, ema, runs)
    checkpoint = find_checkpoint(path, runs)
    for skipped in checkpoint.skipped:
        on_event(Notice(skipped, important=True))
    config = with_data_of(from_toml_text(checkpoint.config_toml, str(checkpoint.path)), RunDirectory(checkpoint.path.parent.parent))
    return _model(config, checkpoint.state, checkpoint.path, ema=ema, checkpoint=checkpoint, runs=runs, asked=path)


def _of_file(path: Path, ema: bool, runs: Path) -> StoredModel:
    if not ema:
        raise RunError(f"{path} holds the EMA weights alone.", "Leave --no-ema out, or name the run instead of the file.")
    facts = exported_facts(path, read_model_header(path).metadata)
    config = from_toml_text(facts["config"], str(path))
    return _model(config, facts, path, ema=ema, checkpoint=None, runs=runs, asked=path)


def _model(config: Config, facts: Mapping[str, Any], origin: Path, **found: Any) -> StoredModel:
    """`facts` holds image_shape and step, and class_names if the data had classes."""
    image_shape, step = checked_shape(facts["image_shape"], origin), checked_step(facts["step"], origin)
    class_names = _checked_names(facts.get("class_names", []), config.model.num_classes, origin)
    return StoredModel(origin, config, image_shape, step, class_names, **found)


def checked_shape(value: Any, origin: Path) -> tuple[int, int, int]:
    """Channels, height and width of a checkpoint's images, as its state gives them.

    Raises:
        CheckpointError: If it gives none; `origin` is what the message names.
    """
    if isinstance(value, list) and len(value) == 3 and all(isinstance(v, int) and 0 < v <= 65536 for v in value):
        if math.prod(value) <= MOST_VALUES:
            return value[0], value[1], value[2]
        raise CheckpointError(
            f"{origin} says that its images are {value[1]}x{value[2]} with {value[0]} channels, which no model here can make.",
            "Name another checkpoint.",
        )
    raise CheckpointError(f"{origin} does not say how large its images are.", "Name another checkpoint.")


def checked_step(value: Any, origin: Path) -> int:
    """Steps of training, as a checkpoint's state gives them.

    Raises:
        CheckpointError: If it is no count; `origin` is what the message names.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT:
        return value
    raise CheckpointError(f"{origin} does not say how many steps it was trained for.", "Name another checkpoint.")


def _checked_names(value: Any, num_classes: int | str | None, origin: Path) -> tuple[str, ...]:
    whole = isinstance(value, list) and all(isinstance(name, str) and len(name) <= LONGEST_NAME for name in value)
    if not whole or (num_classes is not None and len(value) != num_classes):
        raise CheckpointError(f"{origin} does not name its {num_classes or ''} classes.", "Name another checkpoint.")
    return tuple(value)
