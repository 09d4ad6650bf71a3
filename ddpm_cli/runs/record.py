"""Read what a run tells of itself: how it was trained, how it went, and what was measured of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_cli.build.budget import Budget
from ddpm_cli.config.resolve.loader import from_toml_text
from ddpm_cli.core.io.files import UnreadableError, input_errors, printable, read_text
from ddpm_cli.core.io.paths import path_text
from ddpm_cli.core.io.tensor_files import read_tensor_header
from ddpm_cli.errors import RunError
from ddpm_cli.results.comparison import Curve, Run
from ddpm_cli.results.figure import StoredFigure
from ddpm_cli.runs.checkpoints import Checkpoint, latest_checkpoint
from ddpm_cli.runs.data_used import images_since, with_data_of
from ddpm_cli.runs.directory import RESTORE, data_facts, find_run, list_runs, read_info
from ddpm_cli.runs.figures import finite, read_figures
from ddpm_cli.runs.metrics_log import NO_LONGER_PAYS, read_rows
from ddpm_cli.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config

NO_MEASURE = frozenset(
    {"step", "epoch", "images", "seconds", "lr", "grad_norm", "images_per_second", "non_finite_steps", NO_LONGER_PAYS}
)


@dataclass(frozen=True)
class RunRecord:
    """Hold a run as its folder tells of it.

    Attributes:
        run: How it went.
        config: What it was trained with.
        data_sha256: Of its training images; empty if unknown.
        held_out: Which images were held out, as far as the run knows: the data set's name and their number.
        figures: What `ddpm evaluate` stored.
    """

    run: Run
    config: Config
    data_sha256: str
    held_out: str
    figures: tuple[StoredFigure, ...]


def find_runs(paths: Iterable[Path], root: Path) -> list[RunDirectory]:
    """Find the runs that are named; a folder that holds runs stands for all of them, in the order in which they were made.

    Args:
        paths: Names below `root`, run folders, or folders of runs.
        root: The folder of all runs.
    Raises:
        RunError: If one is neither; names that are nearly the same are suggested.
    """
    found = [run for path in paths for run in _runs_at(path, root)]
    return list({run.path.resolve(): run for run in found}.values())


def folder_of_runs(path: Path, root: Path) -> Path | None:
    """Find the folder of runs that `path` names, below `root` or by itself; None if it is something else."""
    for folder in (root / path, path):
        if folder.is_dir() and not RunDirectory(folder).info_path.is_file() and list_runs(folder):
            return folder
    return None


def _runs_at(path: Path, root: Path) -> list[RunDirectory]:
    folder = folder_of_runs(path, root)
    return list(reversed(list_runs(folder))) if folder else [find_run(root, path)]


def read_run(run: RunDirectory) -> RunRecord:
    """Read a run's folder, which may come from a stranger.

    Raises:
        RunError: If it is damaged; the message names the file.
        ConfigError: If its config is no config.
        CheckpointError: If it has checkpoints and all are damaged.
    """
    info, config = read_info(run), read_config(run)
    checkpoint = _newest_checkpoint(run)
    rows = read_rows(run.metrics_log)
    step, images, seconds = _last(rows, "step") or 0, _last(rows, "images") or 0, _last(rows, "seconds") or 0.0
    data = data_facts(info)
    found = Run(
        path=run.path,
        name=printable(run.name),
        seed=config.train.seed,
        device=_text(info.get("device_name")) or _text(info.get("device")) or "unknown",
        step=int(step),
        images=int(images),
        seconds=seconds,
        images_per_second=_last(rows, "images_per_second") or (images / seconds if seconds else None),
        parameters=None if checkpoint is None else parameters_of(checkpoint),
        has_checkpoint=checkpoint is not None,
        finished=checkpoint is not None and has_ended(checkpoint, config, info),
        curves=_curves(rows),
        start="" if config.start.weights is None else path_text(config.start.weights),
    )
    return RunRecord(
        run=found,
        config=config,
        data_sha256=_text(data.get("sha256")),
        held_out=f"{_text(data.get('name'))}, {finite(data.get('test_images'))} images",
        figures=read_figures(run),
    )


def budget_of(config: Config, info: Mapping[str, Any]) -> Budget:
    """Tell the budget of a run; `info`, its run.json, counts the images of an epoch."""
    images = data_facts(info).get("train_images")
    return Budget.of(config.train, images if isinstance(images, int) and images > 0 else 1, images_since(info))


def budget_used(checkpoint: Checkpoint, config: Config, info: Mapping[str, Any]) -> float:
    """Tell the part of a run's budget, in [0, 1], that was used when the checkpoint was written; `info` is its run.json."""
    return budget_of(config, info).share(checkpoint.step, finite(checkpoint.state.get("seconds")) or 0.0)


def has_ended(checkpoint: Checkpoint, config: Config, info: Mapping[str, Any]) -> bool:
    """Tell whether training came to its end at a checkpoint: its budget was used, or `train.patience` stopped it.

    Args:
        checkpoint: The newest of the run.
        config: Of the run; with another budget, patience or optimizer than the checkpoint's, what was stopped goes on.
        info: Its run.json.
    """
    return budget_used(checkpoint, config, info) >= 1 or (was_stopped(checkpoint) and not goes_on_otherwise(checkpoint, config))


def was_stopped(checkpoint: Checkpoint) -> bool:
    """Tell whether `train.patience` stopped the run at a checkpoint."""
    return bool(checkpoint.state.get("patience", {}).get("stopped", False))


def goes_on_otherwise(checkpoint: Checkpoint, config: Config) -> bool:
    """Tell whether a run is to go on with other settings of training than those that its checkpoint was made with."""
    before = from_toml_text(checkpoint.config_toml, str(checkpoint.path))
    train = before.train.model_copy(update={"device": config.train.device})
    return (train, before.optimizer) != (config.train, config.optimizer)


def read_config(run: RunDirectory) -> Config:
    """Read what a run was trained with.

    Raises:
        RunError: If the file is missing or damaged.
        ConfigError: If it is no config.
    """
    with input_errors(run.config_path, RunError, RESTORE):
        text = read_text(run.config_path)
    return with_data_of(from_toml_text(text, str(run.config_path)), run)


def data_sha256(run: RunDirectory) -> str:
    """Read the sum of the images that a run is trained on from its run.json; empty if it is not said.

    Raises:
        RunError: If the file is missing or damaged.
    """
    return _text(data_facts(read_info(run)).get("sha256"))


def _newest_checkpoint(run: RunDirectory) -> Checkpoint | None:
    return latest_checkpoint(run) if any(run.checkpoints_folder.glob("step-*")) else None


def parameters_of(checkpoint: Checkpoint) -> int | None:
    """Count the numbers in the network, by the shapes in its file; None if that cannot be read."""
    try:
        shapes = read_tensor_header(checkpoint.path / "model.safetensors").shapes
    except (UnreadableError, OSError):
        return None
    return sum(math.prod(shape) for shape in shapes.values())


# ------------------------------------------------------------------------------------------------- what strangers wrote


def _curves(rows: list[dict[str, Any]]) -> dict[str, Curve]:
    names = dict.fromkeys(name for row in rows for name in row if name not in NO_MEASURE)
    points = {name: list(_points(rows, name)) for name in names}
    return {printable(name): Curve(*map(tuple, zip(*found, strict=True))) for name, found in points.items() if found}


def _points(rows: list[dict[str, Any]], name: str) -> Iterator[tuple[float, float, float]]:
    for row in rows:
        images, seconds, value = (finite(row.get(key)) for key in ("images", "seconds", name))
        if images is not None and seconds is not None and value is not None:
            yield images, seconds, value


def _last(rows: list[dict[str, Any]], name: str) -> float | None:
    found = [value for row in rows if (value := finite(row.get(name))) is not None]
    return found[-1] if found else None


def _text(value: Any) -> str:
    return printable(value) if isinstance(value, str) else ""
