"""Compare runs, and make the runs of a sweep or a record, from Python: `compare`, `sweep` and `speedrun`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ddpm_cli.api.arguments import as_argument, as_given_path, as_list, as_path, as_text, as_whole
from ddpm_cli.api.training import Run
from ddpm_cli.experiments.comparing import Compared, CompareRequest, compare_runs
from ddpm_cli.experiments.speedrun import run_speedrun
from ddpm_cli.experiments.speedrun_file import load_record
from ddpm_cli.experiments.sweep import compare_sweep, require_all, run_sweep
from ddpm_cli.experiments.sweep_file import load_sweep
from ddpm_cli.experiments.sweep_plan import plan_sweep
from ddpm_cli.render.terminal.console import show_notices
from ddpm_cli.render.terminal.sampling import SamplingView
from ddpm_cli.render.terminal.sweep import SweepView
from ddpm_cli.results.events import Listener, ignore, together
from ddpm_cli.results.speedrun import Speedrun
from ddpm_cli.sampling.file_bounds import Bounds
from ddpm_cli.sampling.request import MAX_SEED, MOST_COMPARED


def compare(
    runs: Run | str | Path | Sequence[Run | str | Path],
    *,
    baseline: str | None = None,
    out: str | Path | None = None,
    images: int = 8,
    seed: int = 0,
    device: str = "auto",
    no_limits: bool = False,
    root: str | Path = "runs",
    progress: bool = True,
    on_event: Listener = ignore,
) -> Compared:
    """Put runs beside each other and say whether they differ, as `ddpm compare` does.

    Args:
        runs: Two or more runs, their names below `root` or their folders; or one folder of runs.
        baseline: Arm or run that the others are judged against; the first finished if None.
        out: Folder for the files; the folder of runs itself where only one is named, else `comparison`, if None.
        images: That are drawn of each run, in [0, 1000]; 0 draws no grids.
        seed: Of the first image, in [0, 10**18); the next has the next.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        no_limits: Lift the limits on what a run may ask for.
        root: The folder of runs.
        progress: Show a bar on stderr if that is a terminal.
        on_event: Told of `SampleProgress` and `Notice`.
    Returns:
        What was found, as `comparison`: its arms with their runs, measures and verdicts; and what was written, as `files`.
    Raises:
        RequestError: If a number is out of its range, or runs, the baseline or the device cannot be had.
        OutputError: If the folder cannot be written.
    """
    count, first = as_whole(images, "images", 0, MOST_COMPARED), as_whole(seed, "seed", 0, MAX_SEED)
    several = [runs] if isinstance(runs, Run | str | Path) else as_list(runs, "runs")
    request = CompareRequest(
        runs=[run.path if isinstance(run, Run) else as_given_path(run, "runs") for run in several],
        root=as_given_path(root, "root"),
        baseline=None if baseline is None else as_text(baseline, "baseline"),
        out=as_path(out, "out"),
        seeds=range(first, first + count),
        device=as_text(device, "device"),
        bounds=Bounds(lifted=no_limits, spelt=as_argument),
        fewer="Draw fewer images, or none (images)",
    )
    with SamplingView() as view:
        return compare_runs(request, together(view if progress else ignore, on_event))


def sweep(
    file: str | Path,
    *,
    name: str | None = None,
    baseline: str | None = None,
    images: int = 8,
    runs: str | Path = "runs",
    progress: bool = True,
    on_event: Listener = ignore,
) -> Compared:
    """Train every combination of settings in a file, measure the results, and compare them, as `ddpm sweep` does.

    Args:
        file: TOML file of the sweep.
        name: Folder of the sweep below `runs`; the file's name if None.
        baseline: Arm or run that the others are judged against; the first finished if None.
        images: That are drawn of each run, in [0, 1000]; 0 draws no grids.
        runs: The folder of runs.
        progress: Show on stderr what the command shows.
        on_event: Told of everything that happens, a `SweepProgress` before each run.
    Returns:
        See `compare`. Of a sweep of one run nothing is written: `files` is empty, and `comparison` has that run and its figures.
    Raises:
        ConfigError: With all faults of all runs.
        RequestError: If a run cannot be trained or measured; nothing was written then.
        InterruptedRunError: After an interrupt, when the run at work has been saved; the same call goes on.
        DdpmError: At the end, if runs failed, with the reasons; the comparison of those that there are is written.
    """
    images = as_whole(images, "images", 0, MOST_COMPARED)
    baseline = None if baseline is None else as_text(baseline, "baseline")
    root = as_given_path(runs, "runs")
    wanted = load_sweep(as_given_path(file, "file"), None if name is None else as_text(name, "name"), root)
    checked = plan_sweep(wanted, runs=root, baseline=baseline, on_event=show_notices)
    with SweepView() as view:
        failures = run_sweep(checked, on_event=together(view if progress else ignore, on_event))
    with SamplingView() as bar:
        listen = together(bar if progress else ignore, on_event)
        found = compare_sweep(checked, failures, baseline=baseline, images=images, on_event=listen)
    require_all(checked, failures)
    return found


def speedrun(
    record: str | Path,
    clock: str | None = None,
    *,
    name: str | None = None,
    runs: str | Path = "runs",
    extractor_weights: str | Path | None = None,
    progress: bool = True,
    on_event: Listener = ignore,
) -> Speedrun:
    """Train a record for a clock's minutes with three seeds, and measure what comes of it, as `ddpm speedrun` does.

    Args:
        record: TOML file: a config with a section `[record]`.
        clock: "cpu-5min", "gpu-3min" or "gpu-10min"; the record's own if None.
        name: Folder below `runs`; the record's name and the clock's if None.
        runs: The folder of runs.
        extractor_weights: File of the Inception network; downloaded if None.
        progress: Show on stderr what the command shows.
        on_event: Told of everything that happens, a `SweepProgress` before each run.
    Returns:
        The figure of each seed, their mean and spread, and the file that keeps them.
    Raises:
        ConfigError: With all rules of the clock that the record breaks.
        DataError: If the clock's images cannot be had.
        InterruptedRunError: After an interrupt, when the run at work has been saved; the same call goes on.
        DdpmError: At the end, if runs failed, with the reasons.
    """
    made, by, wanted = load_record(
        as_given_path(record, "record"),
        None if clock is None else as_text(clock, "clock"),
        None if name is None else as_text(name, "name"),
        as_path(extractor_weights, "extractor_weights"),
    )
    checked = plan_sweep(wanted, runs=as_given_path(runs, "runs"), on_event=show_notices)
    with SweepView() as view:
        return run_speedrun(made, by, checked, on_event=together(view if progress else ignore, on_event))
