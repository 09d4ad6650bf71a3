"""Make the runs of a sweep, one after another, and measure them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ddpm_cli.build.data import build_dataset
from ddpm_cli.config.resolve.loader import override
from ddpm_cli.core.compute.device import resolve_device
from ddpm_cli.core.compute.signals import how_stopped, signal_of
from ddpm_cli.core.io.files import discard_folder, output_errors
from ddpm_cli.errors import DdpmError, InterruptedRunError, RequestError
from ddpm_cli.experiments.comparing import Compared, CompareRequest, compare_runs
from ddpm_cli.experiments.sweep_plan import (
    LEFT,
    CheckedSweep,
    extractors_of,
    notices_once,
    on_same_images,
    require_nothing_else,
    sampling_flags,
)
from ddpm_cli.metrics.registry import USUAL_SAMPLES, known_metrics
from ddpm_cli.results.events import Listener, Notice, SweepPlan, SweepProgress, ignore
from ddpm_cli.runs.lock import locked
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.runs.sweep_state import write_failures
from ddpm_cli.sampling.file_bounds import Bounds
from ddpm_cli.sampling.generate import load_trained
from ddpm_cli.sampling.guide import guided_model
from ddpm_cli.training.train import resume, train

if TYPE_CHECKING:
    from pathlib import Path

    from ddpm_cli.experiments.sweep_file import EvaluatePart, Sweep, SweepRun
    from ddpm_cli.results.figure import Figure


def run_sweep(checked: CheckedSweep, *, on_event: Listener = ignore) -> dict[str, str]:
    """Train what is left to train and measure what is left to measure.

    A run that diverges, or whose figures are not finite, is recorded as failed, and the sweep goes on.

    Args:
        checked: See `plan_sweep`.
        on_event: Told of everything, a SweepProgress before each run.
    Returns:
        Why runs failed, by name.
    Raises:
        InterruptedRunError: After a signal, when the run at work has been saved.
        RunLockedError: If another process is at work on the sweep.
    """
    plan, sweep = checked.plan, checked.sweep
    for folder in (plan.folder.parent, plan.folder):
        with output_errors(folder):
            folder.mkdir(exist_ok=True)
    standings = {planned.name: planned.standing for planned in plan.runs}
    failures = {name: why for name, why in checked.failures.items() if standings.get(name, "failed") == "failed"}
    with locked(RunDirectory(plan.folder)):
        write_failures(plan.folder, failures)
        _require_extractors(sweep, standings, on_event)
        clock = _Clock(plan)
        for number in range(len(sweep.runs)):
            run = on_same_images(sweep, plan.folder).runs[number]
            on_event(clock.progress(number))
            try:
                make_run(sweep, run, plan.folder, standings[run.name], on_event)
            except InterruptedRunError as error:
                raise _interrupted(sweep, f"{run.name}: {error.message}", error.exit_status - 128) from error
            except KeyboardInterrupt as error:
                number = signal_of(error)
                raise _interrupted(sweep, f"{run.name}: stopped by {how_stopped(number)}.", number) from error
            except RequestError:
                raise
            except DdpmError as error:
                failures[run.name] = error.message
                write_failures(plan.folder, failures)
                on_event(Notice(f"{run.name} failed, and the sweep goes on: {error.message}", important=True))
    return failures


def compare_sweep(
    checked: CheckedSweep, failures: Mapping[str, str], *, baseline: str | None = None, images: int = 8, on_event: Listener = ignore
) -> Compared:
    """Compare the runs of a sweep, and write the comparison into its folder, if there are two or more.

    Args:
        checked: The sweep.
        failures: Why runs failed, by name.
        baseline: The arm or run that the others are judged against; the first finished if None.
        images: That are drawn of each run; 0 draws none.
        on_event: Told of each denoising step, and why nothing is written of one run.
    Raises:
        DdpmError: If all runs failed before there was anything of them.
    """
    plan, folder = checked.plan, checked.plan.folder
    runs = [path for run in plan.runs if (path := folder / run.name).is_dir()]
    if not runs:
        require_all(checked, failures)
    request = CompareRequest(
        runs=runs,
        root=folder.parent,
        baseline=baseline,
        out=folder,
        seeds=range(images),
        bounds=Bounds(lifted=True),
        title=f"Sweep {checked.sweep.name}",
        failures=failures,
        least=1,
    )
    return compare_runs(request, on_event)


def require_all(checked: CheckedSweep, failures: Mapping[str, str]) -> None:
    """Say at the end which runs failed, and why.

    Raises:
        DdpmError: If any did.
    """
    if failures:
        reasons = [f"{name}: {reason}" for name, reason in failures.items()]
        raise DdpmError(
            f"{len(failures)} of the {len(checked.plan.runs)} runs of the sweep failed.",
            "\n".join([*reasons, "A failed run is tried again once its folder is removed."]),
        )


def _interrupted(sweep: Sweep, message: str, signal_number: int) -> InterruptedRunError:
    return InterruptedRunError(message, f"Go on with the same command: {sweep.command}", signal_number)


def make_run(sweep: Sweep, run: SweepRun, root: Path, standing: str, on_event: Listener) -> None:
    """Train a run, or go on with it, and measure it."""
    folder = RunDirectory(root / run.name)
    if standing == "begun":
        resume(folder.path, device=run.config.train.device, on_event=on_event)
    elif standing == "new":
        _discard_beginning(folder)
        train(run.config, runs=root, name=run.name, on_event=on_event)
    if standing != "failed":
        measure_run(sweep, run, folder, on_event)


def _discard_beginning(folder: RunDirectory) -> None:
    """Remove a run that was stopped before its first checkpoint."""
    if folder.path.exists():
        require_nothing_else(folder)
        with locked(folder):
            discard_folder(folder.path)


def measure_run(sweep: Sweep, run: SweepRun, folder: RunDirectory, on_event: Listener) -> list[Figure]:
    """Measure a trained run as the sweep says; `evaluate` takes figures that are stored instead of measuring them again."""
    if sweep.evaluate is None:
        return []
    from ddpm_cli.evaluation.evaluate import evaluate

    asked = sweep.evaluate
    settings = replace(asked.settings, seed=_first_seed(asked, run.repeat), bounds=Bounds(lifted=True))
    on_event = notices_once(on_event)
    trained = load_trained(folder.path, resolve_device(run.config.train.device), on_event=on_event)
    dataset = build_dataset(trained.config.data, on_event, trained_on=True)
    found: list[Figure] = []
    for point in sweep.points:
        sample = override(trained.config, flags=sampling_flags(point)).sample
        asked_here = replace(settings, sample=sample)
        guided = guided_model(trained, sample, on_event=on_event)
        found += evaluate(guided, dataset, asked.metrics, asked_here, out=folder.evaluations_folder, on_event=on_event)
    return found


def _first_seed(asked: EvaluatePart, repeat: int) -> int:
    """The first of seeds that no other repeat of an arm has, and the same repeat of every arm has.

    If all had the same, the luck of one set of samples would be in every repeat and therefore in no spread, and the arm that it
    favours would be called better.
    """
    most = max(USUAL_SAMPLES, *(known_metrics()[metric].usual_n for metric in asked.metrics))
    settings = asked.settings
    return settings.seed + repeat * settings.repeats * (settings.n or most)


def _require_extractors(sweep: Sweep, standings: Mapping[str, str], on_event: Listener) -> None:
    """Load, or fit, what will look at the samples: what is missing must not come out after a night of training."""
    left = [run for run in sweep.runs if standings[run.name] in LEFT]
    if sweep.evaluate is None or not left:
        return
    for extractors, kind in extractors_of(sweep.evaluate, left, on_event):
        extractors.of(kind)


class _Clock:
    """Tell the time left in all: what was estimated, corrected by how long the runs so far have taken."""

    def __init__(self, plan: SweepPlan) -> None:
        self._plan = plan
        self._started = time.monotonic()

    def progress(self, number: int) -> SweepProgress:
        """Tell where the sweep is before run `number`, from 0."""
        runs = self._plan.runs
        done = sum(run.seconds for run in runs[:number])
        left = sum(run.seconds for run in runs[number:])
        pace = (time.monotonic() - self._started) / done if done else 1.0
        return SweepProgress(number + 1, len(runs), runs[number].name, runs[number].standing, left * pace)
