"""Gather what a report tells of a run from its folder, with one denoising drawn from its newest checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.core.io.files import UnreadableError, printable, read_bytes
from ddpm_cli.data.pictures.decode import read_header
from ddpm_cli.results.events import Listener, Notice, ignore
from ddpm_cli.runs.directory import read_info
from ddpm_cli.runs.figures import finite
from ddpm_cli.runs.incidents import read_incidents
from ddpm_cli.runs.metrics_log import read_rows
from ddpm_cli.runs.record import read_run
from ddpm_cli.runs.report import RunReport, StoredGrid, Trajectory
from ddpm_cli.sampling.stored_schedule import stored_schedule

if TYPE_CHECKING:
    from ddpm_cli.runs.run_directory import RunDirectory

MOST_GRIDS = 40
LARGEST_PICTURE = 8_000_000
"""Bytes of a file that a report takes in."""

_GRID = re.compile(r"step-(\d{1,18})\.png")


def gather_report(
    run: RunDirectory, *, device: str | None = "auto", no_limits: bool = False, on_event: Listener = ignore
) -> RunReport:
    """Read a run's folder, which may come from a stranger; parts that are not there are left out.

    Args:
        run: The run.
        device: Where to draw a denoising; None draws none.
        no_limits: Lift the bounds on what the model may ask for.
        on_event: Told of each denoising step, and of what was passed over.
    Raises:
        RunError: If a file of it is damaged; the message names the file.
        ConfigError: If its config is no config.
        CheckpointError: If it has checkpoints and all are damaged.
        RequestError: If a denoising would take more time or memory than a run may ask for.
    """
    record = read_run(run)
    grids = _grid_files(run.samples_folder)
    has_checkpoint = record.run.has_checkpoint
    return RunReport(
        run=record.run,
        info=read_info(run),
        config_toml=to_toml(record.config),
        log=tuple(map(_numbers, read_rows(run.metrics_log))),
        incidents=tuple(read_incidents(run.incidents_log)),
        figures=record.figures,
        grids=tuple(_read_grids(_evenly(grids, MOST_GRIDS), on_event)),
        grids_found=len(grids),
        schedule=stored_schedule(run.path)[1] if has_checkpoint else build_schedule(record.config.schedule),
        schedule_kind=record.config.schedule.kind,
        trajectory=_trajectory(run.path, device, no_limits, on_event) if has_checkpoint and device is not None else None,
    )


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {printable(name): number for name, value in row.items() if (number := finite(value)) is not None}


def _grid_files(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    return sorted((int(found[1]), path) for path in folder.iterdir() if (found := _GRID.fullmatch(path.name)))


def _evenly(items: Sequence[tuple[int, Path]], most: int) -> list[tuple[int, Path]]:
    """At most so many of them, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[place * (len(items) - 1) // (most - 1)] for place in range(most)]


def _read_grids(files: Sequence[tuple[int, Path]], on_event: Listener) -> Iterator[StoredGrid]:
    for step, path in files:
        try:
            yield StoredGrid(step, _read_picture(path))
        except UnreadableError as error:
            on_event(Notice(f"{path} {error}; the report goes without it.", important=True))


def _read_picture(path: Path) -> bytes:
    try:
        content = read_bytes(path, LARGEST_PICTURE)
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror})") from error
    read_header(content)
    return content


def _trajectory(run: Path, device: str, no_limits: bool, on_event: Listener) -> Trajectory:
    from ddpm_cli.core.compute.device import resolve_device
    from ddpm_cli.sampling.file_bounds import Bounds
    from ddpm_cli.sampling.generate import load_trained
    from ddpm_cli.sampling.trajectory import draw_trajectory

    trained = load_trained(run, resolve_device(device), on_event=on_event)
    return draw_trajectory(trained, Bounds(lifted=no_limits), on_event=on_event)
