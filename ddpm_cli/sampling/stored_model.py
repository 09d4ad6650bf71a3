"""Find a trained model as its files tell of it, before its weights are read. Imports no torch.

What is wrong with a request is found out here, in a moment; `generate.load_trained` reads the weights of what was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_cli.config.resolve.loader import from_toml_text
from ddpm_cli.config.schema.config import WIDEST
from ddpm_cli.data.scale import USUAL, Scale
from ddpm_cli.errors import CheckpointError, RunError
from ddpm_cli.results.events import Listener, Notice, ignore
from ddpm_cli.runs.checkpoint_state import checked_scale, checked_shape, checked_step
from ddpm_cli.runs.data_used import with_data_of
from ddpm_cli.runs.model_file import read_model_header
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.stored import exported_facts, find_checkpoint

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.runs.checkpoints import Checkpoint

LONGEST_NAME = 1000
"""Characters of a class's name, which are drawn beside pictures."""


@dataclass(frozen=True)
class StoredModel:
    """Hold a run's checkpoint, or an exported file, that can be loaded as far as its config, state and headers tell.

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
        width: Of the power-function average that its weights are; None for others.
        scale: Which values its images are stored in, and which of them are -1 and 1.
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
    width: float | None = None
    scale: Scale = USUAL

    @property
    def num_classes(self) -> int | None:
        """Count the classes that its labels are of; None if it takes no labels."""
        return self.config.model.resolved_classes()


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
        raise RunError(f"{path} holds the EMA weights alone.", "Take these, or name the run instead of the file.")
    facts = exported_facts(path, read_model_header(path).metadata)
    config = from_toml_text(facts["config"], str(path))
    width = facts.get("ema_width")
    if width is not None and not (isinstance(width, float) and 0 < width <= WIDEST):
        raise CheckpointError(f"{path} has no width of an average under 'ema_width'.", "Make the file again by `ddpm ema`.")
    return _model(config, facts, path, ema=ema, checkpoint=None, runs=runs, asked=path, width=width)


def _model(config: Config, facts: Mapping[str, Any], origin: Path, **found: Any) -> StoredModel:
    """`facts` holds image_shape and step, class_names if the data had classes, and scale if it is not the usual one."""
    image_shape, step = checked_shape(facts["image_shape"], origin), checked_step(facts["step"], origin)
    class_names = _checked_names(facts.get("class_names", []), config.model.num_classes, origin)
    scale = checked_scale(facts.get("scale"), origin)
    return StoredModel(origin, config, image_shape, step, class_names, scale=scale, **found)


def _checked_names(value: Any, num_classes: int | str | None, origin: Path) -> tuple[str, ...]:
    whole = isinstance(value, list) and all(isinstance(name, str) and len(name) <= LONGEST_NAME for name in value)
    if not whole or (num_classes is not None and len(value) != num_classes):
        raise CheckpointError(f"{origin} does not name its {num_classes or ''} classes.", "Name another checkpoint.")
    return tuple(value)
