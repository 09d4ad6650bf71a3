"""Plan what a sweep will do: its runs, checked against what lies in its folder, and how long they will take."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ddpm_cli.build.data import build_dataset
from ddpm_cli.build.schedule import self_contained
from ddpm_cli.config.resolve.changes import differences
from ddpm_cli.config.resolve.loader import override
from ddpm_cli.config.schema.schedule import FlowSchedule
from ddpm_cli.core.compute.device import resolve_device
from ddpm_cli.core.io.files import require_writable_folder
from ddpm_cli.core.io.temporaries import TEMPORARY_PREFIX
from ddpm_cli.core.wording import first_few
from ddpm_cli.errors import RequestError, RunError
from ddpm_cli.evaluation.check import check_effects, check_numbers
from ddpm_cli.experiments.compare import check_baseline
from ddpm_cli.metrics.registry import known_metrics
from ddpm_cli.results.events import Event, Listener, Notice, PlannedRun, SweepPlan, ignore
from ddpm_cli.runs.checkpoints import has_checkpoint, latest_checkpoint
from ddpm_cli.runs.data_used import BUNDLED, FULL, stood_in_for, with_bundled
from ddpm_cli.runs.directory import read_info
from ddpm_cli.runs.record import has_ended, read_config
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.runs.sweep_state import read_failures
from ddpm_cli.training.train import plan_training

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.evaluation.extractors import Extractors
    from ddpm_cli.experiments.sweep_file import EvaluatePart, Sweep, SweepRun
    from ddpm_cli.metrics.registry import ExtractorKind
    from ddpm_cli.results.events import TrainPlan

Standing = Literal["new", "begun", "finished", "failed"]
LEFT = ("new", "begun")
OF_A_RUN = frozenset(
    {"config.toml", "run.json", "metrics.jsonl", "metrics.json", "incidents.jsonl", "samples", "samples.png", "loss.png"}
    | {"averages", "checkpoints", "pictures.sums", "lock", "trackers.json", "tensorboard", "wandb"}
)


@dataclass(frozen=True)
class CheckedSweep:
    """Hold a sweep of which every run fits what lies in its folder.

    Attributes:
        sweep: What was asked for.
        plan: What is left to do.
        failures: Why runs failed, by name.
    """

    sweep: Sweep
    plan: SweepPlan
    failures: Mapping[str, str]


def plan_sweep(
    sweep: Sweep, *, runs: Path = Path("runs"), baseline: str | None = None, on_event: Listener = ignore
) -> CheckedSweep:
    """Plan what is left to do, and resolve every arm with its data and its network; nothing is written.

    Args:
        sweep: What is asked for.
        runs: The folder of runs.
        baseline: The arm or run that the others will be compared with; None for the first that has finished.
        on_event: Told of notices.
    Raises:
        RunError: If a run of that name was made with another config, or there is no such baseline.
        RequestError: If an arm cannot be trained or a metric does not exist.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RequestError("A sweep makes its runs in one process.", "Start it without torchrun.")
    if sweep.evaluate is not None:
        check_effects(sweep.evaluate.metrics, sweep.evaluate.asked, lambda name: f"evaluate.{name}")
        check_numbers(sweep.evaluate.metrics, sweep.evaluate.settings, lambda name: f"evaluate.{name}")
    if baseline is not None:
        check_baseline(baseline, {run.name for run in sweep.runs} | {run.arm for run in sweep.runs})
    folder = runs / sweep.name
    require_writable_folder(folder if runs.is_dir() else runs)
    if RunDirectory(folder).info_path.exists():
        raise RunError(f"{folder} is a run, not the folder of a sweep.", "Give the sweep another name: --name NAME")
    sweep = on_same_images(sweep, folder, on_event)
    failures = read_failures(folder)
    standings = {run.name: _standing(run, RunDirectory(folder / run.name), failures) for run in sweep.runs}
    for run in sweep.runs:
        if standings[run.name] == "new" and (folder / run.name).exists():
            require_nothing_else(RunDirectory(folder / run.name))
    _require_images_of_before(sweep, standings, on_event)
    plans = _plans(sweep, standings, notices_once(on_event))
    if sweep.evaluate is not None:
        for extractors, kind in extractors_of(sweep.evaluate, [run for run in sweep.runs if standings[run.name] in LEFT]):
            extractors.check(kind)
    planned = []
    for run in sweep.runs:
        standing, seconds = standings[run.name], 0.0
        if standing in LEFT:
            seconds = (plans[run.arm].estimated_seconds or 0.0) + _sampling_seconds(sweep, run.config, plans[run.arm])
        planned.append(PlannedRun(run.name, run.arm, run.config.train.seed, run.settings, standing, seconds))
    points = sweep.points if sweep.evaluate else ()
    return CheckedSweep(sweep, SweepPlan(sweep.name, folder, tuple(planned), points), failures)


def on_same_images(sweep: Sweep, folder: Path, on_event: Listener = ignore) -> Sweep:
    """Put a sweep on the images that its runs so far had to take in place of those that it names: others would not compare."""
    begun = [run.name for run in sweep.runs if RunDirectory(folder / run.name).config_path.exists()]
    bundled = {name: stood_in_for(RunDirectory(folder / name)) is not None for name in begun}
    if not any(bundled.values()):
        return sweep
    on_event(
        Notice(
            f"Runs in {folder} were trained on {BUNDLED}, because {FULL} could not be had; the others are too, so that they "
            "compare. For the full set give the sweep another name: --name NAME",
            important=True,
        )
    )
    return replace(
        sweep,
        runs=tuple(replace(run, config=with_bundled(run.config)) if bundled.get(run.name, True) else run for run in sweep.runs),
    )


def _require_images_of_before(sweep: Sweep, standings: Mapping[str, Standing], on_event: Listener) -> None:
    """Refuse to go on where the images of the runs so far cannot be had any more: runs on what stands in would not compare.

    Raises:
        DataError: Naming what is missing.
    """
    if not set(LEFT) & set(standings.values()):
        return
    begun = [run.config.data for run in sweep.runs if standings[run.name] in ("begun", "finished") and run.config.data.kind == FULL]
    for data in begun[:1]:
        build_dataset(data, on_event, trained_on=True)


def _standing(run: SweepRun, folder: RunDirectory, failures: Mapping[str, str]) -> Standing:
    if not folder.config_path.exists():
        return "new"
    _require_same(run, folder)
    if run.name in failures:
        return "failed"
    if not any(folder.checkpoints_folder.glob("step-*")):
        return "new"
    return "finished" if has_ended(latest_checkpoint(folder), run.config, read_info(folder)) else "begun"


def _require_same(run: SweepRun, folder: RunDirectory) -> None:
    stored = read_config(folder)
    if changed := differences(_compared(stored, stored), _compared(run.config, stored)):
        raise RunError(
            f"{folder.path} was made with another config than the file asks for now: {first_few(changed)}.",
            "Restore the file, give the sweep another name (--name NAME), or remove that folder to make the run anew.",
        )


def _compared(config: Config, stored: Config) -> Config:
    """A config without its device, and with what training fills in from the data as `stored` has it."""
    config = self_contained(config)
    model = config.model
    if config.start.weights is not None:
        model = model.as_moved_in(stored.model)
    if model.num_classes == "auto":
        model = model.model_copy(update={"num_classes": stored.model.num_classes})
    schedule = config.schedule
    if isinstance(schedule, FlowSchedule) and schedule.shift == "resolution" and isinstance(stored.schedule, FlowSchedule):
        schedule = schedule.model_copy(update={"shift": stored.schedule.shift})
    train = config.train.model_copy(update={"device": "auto"})
    return config.model_copy(update={"model": model, "schedule": schedule, "train": train})


def require_nothing_else(folder: RunDirectory) -> None:
    """Refuse to remove a folder unless training made all that is in it, and no other process finished it meanwhile.

    Raises:
        RunError: Naming what is in it.
    """
    if has_checkpoint(folder):
        raise RunError(f"{folder.path} was made by another process just now.", "Start the sweep again.")
    foreign = sorted(path.name for path in folder.path.iterdir() if path.name not in OF_A_RUN)
    foreign = [name for name in foreign if not name.startswith(TEMPORARY_PREFIX)]
    if foreign:
        raise RunError(
            f"{folder.path} has no checkpoint to go on from, and holds {foreign[0]}, which is no part of a run.",
            "Move it away, then start the sweep again.",
        )


def extractors_of(
    asked: EvaluatePart, runs: Iterable[SweepRun], on_event: Listener = ignore
) -> Iterator[tuple[Extractors, ExtractorKind]]:
    """List what will look at the samples of these runs, once for each data set and kind."""
    from ddpm_cli.evaluation.extractors import Extractors

    settings = asked.settings
    kinds = {kind for metric in asked.metrics if (kind := known_metrics()[metric].extractor)}
    for run in {run.config.data.model_dump_json(): run for run in runs if kinds}.values():
        device, dataset = resolve_device(run.config.train.device), build_dataset(run.config.data)
        extractors = Extractors(dataset, device, weights=settings.extractor_weights, fit=settings.fit_extractor, on_event=on_event)
        yield from ((extractors, kind) for kind in kinds)


def _plans(sweep: Sweep, standings: Mapping[str, Standing], on_event: Listener) -> dict[str, TrainPlan]:
    """What one run of each arm that still trains will cost."""
    left = {run.arm: run for run in sweep.runs if standings[run.name] in LEFT}
    return {arm: plan_training(run.config, on_event=on_event) for arm, run in left.items()}


def notices_once(on_event: Listener) -> Listener:
    """Hand on each notice once, however many arms or settings give it, and every other event; a listener."""
    said: set[str] = set()

    def listen(event: Event) -> None:
        if isinstance(event, Notice):
            if event.message in said:
                return
            said.add(event.message)
        on_event(event)

    return listen


def _sampling_seconds(sweep: Sweep, config: Config, plan: TrainPlan) -> float:
    """Roughly, a forward pass being a third of a step of training; 0 where that is not known."""
    if sweep.evaluate is None or plan.total_steps is None or plan.estimated_seconds is None:
        return 0.0
    forward = plan.estimated_seconds / (3 * plan.total_steps * plan.batch_size)
    samplers = [override(config, flags=sampling_flags(point)).sample.sampler for point in sweep.points]
    evaluations = sum(sampler.evaluations(config.schedule.timesteps) for sampler in samplers)
    return forward * evaluations * sweep.evaluate.settings.repeats * (sweep.evaluate.settings.n or 1000)


def sampling_flags(point: Mapping[str, object]) -> dict[str, tuple[object, str]]:
    """Write settings of sampling as `config.resolve.loader` takes flags."""
    return {key: (value, "[evaluate]") for key, value in point.items()}
