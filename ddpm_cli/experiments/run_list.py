"""List the runs below a folder, as `ddpm ls` does. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ddpm_cli.core.io.files import bytes_below, printable
from ddpm_cli.errors import DdpmError, RunError
from ddpm_cli.metrics.registry import in_training, judges
from ddpm_cli.results.figure import StoredFigure
from ddpm_cli.results.overview import RunRow, RunState
from ddpm_cli.runs.checkpoints import has_checkpoint, list_checkpoints, step_of
from ddpm_cli.runs.directory import IMPORTED_FROM, checked_run, data_facts, read_info
from ddpm_cli.runs.figures import finite, read_figures
from ddpm_cli.runs.lock import is_locked
from ddpm_cli.runs.metrics_log import NO_LONGER_PAYS, each_row
from ddpm_cli.runs.record import budget_of, read_config
from ddpm_cli.runs.run_directory import RunDirectory

Before = TypeVar("Before", float, float | None)
_SIGNS = ("run.json", "config.toml", "checkpoints")


@dataclass
class LogSummary:
    """Hold what the log of a run's training tells.

    Attributes:
        step: The last one.
        seconds: Time in training.
        loss: The last one.
        held_out_loss: The lowest.
        no_longer_pays: Whether `train.patience` stopped the run at the last step.
        metrics: The best of each metric of samples, by name.
    """

    step: int = 0
    seconds: float = 0.0
    loss: float | None = None
    held_out_loss: float | None = None
    no_longer_pays: bool = False
    metrics: dict[str, float] = field(default_factory=dict)


def list_rows(root: Path) -> list[RunRow]:
    """List every run below a folder, and those of sweeps in it, the newest first; one that cannot be used with its fault.

    Args:
        root: The folder of all runs; without one there are no runs.
    Raises:
        RunError: If it cannot be read.
    """
    try:
        found = _run_folders(root) if root.is_dir() else ()
        paths = {path.resolve(): path for path in found}.values()  # a link may lead to a run that is here already
    except OSError as error:
        raise RunError(f"{root} cannot be read ({error.strerror}).", "Check its permissions, or name another folder.") from error
    rows = [describe_run(RunDirectory(path), path.relative_to(root).as_posix()) for path in paths]
    return sorted(rows, key=lambda row: (row.created is None, -(row.created or 0.0), row.name))


def _run_folders(root: Path) -> Iterator[Path]:
    for path in sorted(root.iterdir(), key=lambda path: (not path.is_symlink(), path)):
        if _looks_like_a_run(path):
            yield path
        elif path.is_dir():
            yield from _runs_of_sweep(path)


def _runs_of_sweep(folder: Path) -> list[Path]:
    try:
        return [path for path in sorted(folder.iterdir()) if _looks_like_a_run(path)]
    except OSError:  # whose folder it is cannot be known
        return [folder]


def _looks_like_a_run(path: Path) -> bool:
    return path.is_dir() and any(os.path.lexists(path / name) for name in _SIGNS)


def describe_run(run: RunDirectory, name: str) -> RunRow:
    """Describe a run in a list; whatever is wrong with it is told in the row.

    Args:
        run: Its folder, which may come from a stranger.
        name: What to call it.
    """
    size, created = bytes_below(run.path), None
    try:
        info = read_info(run)
        created = finite(info.get("created"))
        return _describe(run, printable(name), info, created, size)
    except (DdpmError, OSError) as error:
        return RunRow(printable(name), run.path, "broken", _reason(error), bytes=size, created=created)


def _reason(error: DdpmError | OSError) -> str:
    return error.message if isinstance(error, DdpmError) else f"it cannot be read ({error.strerror})"


def _describe(run: RunDirectory, name: str, info: Mapping[str, Any], created: float | None, size: int) -> RunRow:
    checked_run(run)
    config, log = read_config(run), summarise_log(run)
    checkpoints = list_checkpoints(run)
    if checkpoints and not has_checkpoint(run):
        raise RunError(f"Run {run.path} has no complete checkpoint.")
    if checkpoints:  # of a run that was stopped before its first row, and between two
        log.step = max(log.step, step_of(checkpoints[-1]))
    data = data_facts(info)
    share = budget_of(config, info).share(log.step, log.seconds)
    metric, value = judged_by(read_figures(run), log)
    return RunRow(
        name=name,
        path=run.path,
        state="training" if is_locked(run) else _state_at_rest(info, log, share),
        data=printable(data["name"]) if isinstance(data.get("name"), str) else "" if IMPORTED_FROM in info else config.data.kind,
        step=log.step,
        share=share,
        seconds=log.seconds,
        loss=log.loss,
        held_out_loss=log.held_out_loss,
        metric=metric,
        value=value,
        bytes=size,
        created=created,
    )


def _state_at_rest(info: Mapping[str, Any], log: LogSummary, share: float) -> RunState:
    if share >= 1:
        return "finished"
    if log.no_longer_pays:
        return "no longer paid"
    return "imported" if IMPORTED_FROM in info and not log.step else "stopped"


def summarise_log(run: RunDirectory) -> LogSummary:
    """Summarise what a run's log of training tells, with one line of it in memory at a time.

    Raises:
        RunError: If it cannot be read.
    """
    log, metrics = LogSummary(), in_training()
    for row in each_row(run.metrics_log):
        log.step, log.no_longer_pays = row["step"], bool(row.get(NO_LONGER_PAYS))
        log.seconds = _newer(row, "seconds", log.seconds)
        log.loss = _newer(row, "loss", log.loss)
        log.held_out_loss = _lowest((log.held_out_loss, finite(row.get("held_out_loss"))))
        for name, metric in metrics.items():
            if (value := finite(row.get(name))) is not None:
                log.metrics[name] = metric.best((value, log.metrics.get(name, value)))
    return log


def _newer(row: Mapping[str, Any], name: str, before: Before) -> float | Before:
    value = finite(row.get(name))
    return before if value is None else value


def _lowest(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def judged_by(figures: Iterable[StoredFigure], log: LogSummary) -> tuple[str | None, float | None]:
    """Name and best value of the metric that a run is judged by; (None, None) if none that judges was measured.

    What was measured with the help of another model, or of an average that was made afterwards, does not judge the run.
    """
    own = [stored.figure for stored in figures if not {"guide", "ema_width"} & stored.figure.details.keys()]
    values = [(figure.metric, figure.value) for figure in own] + list(log.metrics.items())
    for metric in judges():
        if found := [value for name, value in values if name == metric.name]:
            return metric.name, metric.best(found)
    return None, None
