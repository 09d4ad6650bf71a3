"""Gather all that a run, a checkpoint or an exported file tells of itself. A sound exported file alone needs torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ddpm_cli.config.resolve.changes import differing
from ddpm_cli.config.resolve.loader import from_toml_text
from ddpm_cli.config.schema.config import Config
from ddpm_cli.core.io.files import bytes_below
from ddpm_cli.data.scale import USUAL, scale_of
from ddpm_cli.errors import CheckpointError, DdpmError, ExtensionError, RunError
from ddpm_cli.experiments.run_list import describe_run
from ddpm_cli.results.figure import StoredFigure
from ddpm_cli.results.outlook import Outlook
from ddpm_cli.results.overview import CheckpointRow, ModelInfo
from ddpm_cli.results.tuning import Tuning
from ddpm_cli.runs.checkpoint_state import is_count
from ddpm_cli.runs.checkpoints import MANIFEST, Checkpoint, list_checkpoints, load_checkpoint, read_manifest, step_of
from ddpm_cli.runs.directory import find_run, read_info
from ddpm_cli.runs.figures import finite, read_figures
from ddpm_cli.runs.metrics_log import count_incidents, each_row
from ddpm_cli.runs.model_file import load_model_file, read_model_header
from ddpm_cli.runs.record import parameters_of, read_config
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.stored import exported_facts
from ddpm_cli.sampling.tuning.store import exported_tuning, find_tuning, read_tuning, staleness
from ddpm_cli.training.logging.outlook import outlook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Value = TypeVar("Value")
OF_TRAINING = ("seconds", "last_loss", "last_held_out_loss", "best_held_out_loss", "ema_updates", "non_finite_steps", "launch")
"""Keys of a checkpoint's state that a person reads."""


def model_info(path: Path | None, runs: Path = Path("runs")) -> ModelInfo:
    """Read everything, and compare all checkpoints with their sums.

    Args:
        path: A run folder or the name of one below `runs`, a checkpoint, or an exported `.safetensors` file; None takes the newest
            run below `runs`.
        runs: The folder of runs.
    Returns:
        What was found; what is wrong with parts of a run is among its faults.
    Raises:
        RunError: If there is no such run.
        CheckpointError: If the checkpoint or the file is damaged.
        ConfigError: If its config is none.
    """
    if path is not None and (path / MANIFEST).is_file():
        return _of_checkpoint(path)
    if path is not None and path.is_file():
        return _of_file(path)
    return _of_run(find_run(runs, path))


def _of_run(run: RunDirectory) -> ModelInfo:
    row = describe_run(run, run.name)
    faults = [row.fault] if row.fault else []
    config = _told(lambda: read_config(run), None, faults)
    figures: tuple[StoredFigure, ...] = _told(lambda: read_figures(run), (), faults)
    incidents: Mapping[str, int] = _told(lambda: count_incidents(run.incidents_log), {}, faults)
    provenance: Mapping[str, Any] = _told(lambda: read_info(run), {}, faults)
    tuning, tuning_fault = _tuning(lambda: read_tuning(run))
    seen: Outlook | None = _told(lambda: outlook(each_row(run.metrics_log), config), None, faults) if config else None
    checkpoints, newest = checked_checkpoints(run)
    faults += [checkpoint.fault for checkpoint in checkpoints if checkpoint.fault]
    return ModelInfo(
        path=run.path,
        kind="run",
        row=row,
        step=newest.step if newest else None,
        parameters=parameters_of(newest) if newest else None,
        image_shape=_shape(newest.state.get("image_shape")) if newest else None,
        config=config.model_dump(mode="json") if config else {},
        settings=differing(Config(), config) if config else {},
        provenance=provenance,
        training=_training(newest) if newest else {},
        incidents=incidents,
        checkpoints=checkpoints,
        figures=figures,
        outlook=seen,
        tuning=tuning,
        tuning_fault=tuning_fault,
        tuned_for_others=_for_others(tuning, newest.step) if newest else "",
        faults=tuple(dict.fromkeys(faults)),
        bytes=row.bytes,
        pixels=_pixels(newest.state) if newest else "",
    )


def _told(read: Callable[[], Value], otherwise: Value, faults: list[str]) -> Value:
    """What a reader gives; `otherwise` if it cannot, and then the reason is added to the faults."""
    try:
        return read()
    except ExtensionError:  # nothing is wrong with the run
        raise
    except DdpmError as error:
        faults.append(error.message)
        return otherwise


def _tuning(read: Callable[[], Tuning | None]) -> tuple[Tuning | None, str]:
    """What a reader gives, and what is wrong with it: the model is as good without it, and it can be made again."""
    try:
        return read(), ""
    except RunError as error:
        return None, f"{error.message} {error.remedy}"


def _for_others(tuning: Tuning | None, step: int) -> str:
    """For which other weights than those of this step a sampler was tuned; which weights of a step it is for, is no matter."""
    return "" if tuning is None else staleness(tuning, step, tuning.ema)


def _of_checkpoint(path: Path) -> ModelInfo:
    checkpoint = load_checkpoint(path)
    config = from_toml_text(checkpoint.config_toml, str(path))
    size, (tuning, tuning_fault) = bytes_below(path), _tuning(lambda: find_tuning(path))
    return ModelInfo(
        path=path,
        kind="checkpoint",
        step=checkpoint.step,
        parameters=parameters_of(checkpoint),
        image_shape=_shape(checkpoint.state.get("image_shape")),
        config=config.model_dump(mode="json"),
        settings=differing(Config(), config),
        training=_training(checkpoint),
        checkpoints=(CheckpointRow(path, checkpoint.step, checkpoint.best, size, ""),),
        tuning=tuning,
        tuning_fault=tuning_fault,
        tuned_for_others=_for_others(tuning, checkpoint.step),
        bytes=size,
        pixels=_pixels(checkpoint.state),
    )


def _of_file(path: Path) -> ModelInfo:
    header = read_model_header(path)
    facts = exported_facts(path, header.metadata)
    config = from_toml_text(facts["config"], str(path))
    load_model_file(path)  # which compares it with its checksum
    tuning, tuning_fault = _tuning(lambda: exported_tuning(path, facts))
    step = facts["step"] if is_count(facts["step"]) else None
    return ModelInfo(
        path=path,
        kind="exported file",
        step=step,
        parameters=sum(math.prod(shape) for shape in header.shapes.values()),
        image_shape=_shape(facts["image_shape"]),
        config=config.model_dump(mode="json"),
        settings=differing(Config(), config),
        tuning=tuning,
        tuning_fault=tuning_fault,
        tuned_for_others="" if step is None else _for_others(tuning, step),
        bytes=bytes_below(path),
        ema_width=finite(facts.get("ema_width")),
        pixels=_pixels(facts),
    )


def checked_checkpoints(run: RunDirectory) -> tuple[tuple[CheckpointRow, ...], Checkpoint | None]:
    """Check all checkpoints of a run, oldest first, against their sums; and find the newest that is whole, if there is one."""
    try:
        paths: Sequence[Path] = list_checkpoints(run)
    except OSError as error:
        fault = f"{run.checkpoints_folder} cannot be read ({error.strerror})."
        return (CheckpointRow(run.checkpoints_folder, 0, False, 0, fault),), None
    rows, newest = [], None
    for path in paths:
        try:
            newest = load_checkpoint(path)
            rows.append(CheckpointRow(path, newest.step, newest.best, bytes_below(path), ""))
        except CheckpointError as error:
            if path.exists():  # else a process that trains has put a newer one in its place
                rows.append(CheckpointRow(path, step_of(path), _claims_best(path), bytes_below(path), error.message))
    return tuple(rows), newest


def _claims_best(path: Path) -> bool:
    try:
        return read_manifest(path).best
    except CheckpointError:
        return False


def _training(checkpoint: Checkpoint) -> dict[str, Any]:
    return {key: checkpoint.state[key] for key in OF_TRAINING if key in checkpoint.state}


def _pixels(facts: Mapping[str, Any]) -> str:
    """The range of the pixels; empty for the usual one, and for what is none."""
    try:
        scale = scale_of(facts.get("scale"))
    except ValueError:
        return ""
    return "" if scale == USUAL else str(scale)


def _shape(value: Any) -> tuple[int, ...] | None:
    sound = isinstance(value, list | tuple) and len(value) == 3 and all(map(is_count, value))
    return tuple(value) if sound else None
