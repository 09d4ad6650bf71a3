"""Train a record with each seed for as long as its clock runs, and measure what comes of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ddpm_cli.build.data import build_dataset
from ddpm_cli.core.io.downloads import cache_directory
from ddpm_cli.core.io.files import atomic_write, to_json
from ddpm_cli.core.io.paths import path_text
from ddpm_cli.errors import DataError
from ddpm_cli.experiments.sweep import measure_run, require_all, run_sweep
from ddpm_cli.results.events import Listener, ignore
from ddpm_cli.results.speedrun import Clock, Record, Speedrun, TimedRun
from ddpm_cli.runs.directory import read_info
from ddpm_cli.runs.record import RunRecord, read_run
from ddpm_cli.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from ddpm_cli.experiments.sweep_file import SweepRun
    from ddpm_cli.experiments.sweep_plan import CheckedSweep
    from ddpm_cli.results.figure import Figure

FILE = "speedrun.json"


def run_speedrun(record: Record, clock: Clock, checked: CheckedSweep, *, on_event: Listener = ignore) -> Speedrun:
    """Train and measure what is left, and keep the figures of all seeds.

    Args:
        record: See `load_record`.
        clock: See `load_record`.
        checked: The sweep over its seeds, see `plan_sweep`.
        on_event: Told of everything, a SweepProgress before each run.
    Raises:
        DataError: If the clock's images cannot be had: no others take their place.
        InterruptedRunError: After a signal, when the run at work has been saved.
        DdpmError: If a run failed.
    """
    if build_dataset(checked.sweep.runs[0].config.data, on_event).stands_in_for:
        raise DataError(
            f"The clock {clock.name} trains on all of {clock.data}, which cannot be had here, and nothing may stand in for it.",
            f"Put its files into {cache_directory()}, or connect to the network.",
        )
    require_all(checked, run_sweep(checked, on_event=on_event))
    folder = checked.plan.folder
    found = [_measured(checked, run, on_event) for run in checked.sweep.runs]
    first, figure = found[0]
    threads = read_info(RunDirectory(first.run.path)).get("threads")
    speedrun = Speedrun(
        record=record,
        clock=clock,
        device=first.run.device,
        threads=threads if isinstance(threads, int) else 0,
        runs=tuple(_timed(record, figure) for record, figure in found),
        floor=figure.floor,
        file=folder / FILE,
    )
    atomic_write(speedrun.file, to_json(speedrun_json(speedrun)))
    return speedrun


def speedrun_json(speedrun: Speedrun) -> dict[str, Any]:
    """Write it as a JSON object."""
    runs = [asdict(run) | {"path": path_text(run.path)} for run in speedrun.runs]
    return {
        "record": asdict(speedrun.record) | {"file": path_text(speedrun.record.file)},
        "clock": asdict(speedrun.clock),
        "mean": speedrun.mean,
        "spread": speedrun.spread,
        "floor": speedrun.floor,
        "device": speedrun.device,
        "threads": speedrun.threads,
        "runs": runs,
        "file": path_text(speedrun.file),
    }


def _measured(checked: CheckedSweep, run: SweepRun, on_event: Listener) -> tuple[RunRecord, Figure]:
    """A run, and its figure: the one that the clock's rules give, whatever else was measured of it."""
    folder = RunDirectory(checked.plan.folder / run.name)
    (figure,) = measure_run(checked.sweep, run, folder, on_event)
    return read_run(folder), figure


def _timed(record: RunRecord, figure: Figure) -> TimedRun:
    run = record.run
    return TimedRun(run.path, run.seed, run.step, run.images, run.seconds, run.images_per_second, figure.value)
