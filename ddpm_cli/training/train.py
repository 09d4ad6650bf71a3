"""Start a run, or go on with one: everything around the training loop.

What is wrong with a request is found before torch is imported, as far as that can be: heavy imports stay inside the functions.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_cli.config.resolve.changes import change
from ddpm_cli.config.resolve.layers import flatten
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.core.asking import as_option
from ddpm_cli.core.compute.device import precision_of
from ddpm_cli.core.compute.signals import stop_on_signals
from ddpm_cli.core.io.files import atomic_write
from ddpm_cli.core.launch import is_main, launch_key
from ddpm_cli.errors import OutputError, RunMovedError, SaveFailedError
from ddpm_cli.results.data_change import FROM_THE_START, Since
from ddpm_cli.results.events import Listener, Notice, TrainEnded, TrainPlan, TrainPlanned, TrainSummary, ignore, together
from ddpm_cli.runs.checkpoints import latest_checkpoint, list_checkpoints
from ddpm_cli.runs.data_used import keep_sums, record_data
from ddpm_cli.runs.directory import check_new_run, find_run, sweep_run, write_info
from ddpm_cli.runs.held_folder import HeldFolder, held
from ddpm_cli.runs.launch_record import launch, launch_notice
from ddpm_cli.runs.launches import last_launch, record_launch
from ddpm_cli.runs.lock import locked
from ddpm_cli.runs.metrics_log import MetricsLog
from ddpm_cli.runs.provenance import describe_data, describe_start
from ddpm_cli.runs.record import goes_on_otherwise, was_stopped
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.file_bounds import Bounds
from ddpm_cli.sampling.stored import check_architecture, require_data
from ddpm_cli.training.logging.pictures import run_pictures
from ddpm_cli.training.logging.recorder import guard, recorder
from ddpm_cli.training.logging.trackers import Trackers
from ddpm_cli.training.planning.prepare import Prepared, accelerator_for, check_batch_search, checked, prepare, with_data
from ddpm_cli.training.processes import begun_run, new_run, require_agreement
from ddpm_cli.training.resume import (
    change_notice,
    data_since,
    finished_notice,
    is_finished,
    resume_flags,
    resume_notices,
    scale_of_run,
    stored_config,
)
from ddpm_cli.training.start.source import find_start

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.results.start import StartReport
    from ddpm_cli.training.loop import TrainingLoop
    from ddpm_cli.training.metrics import TrainingMetrics
    from ddpm_cli.training.start.start import Start

PACKAGES = ("torch", "torchvision", "accelerate", "numpy", "safetensors", "pillow")


def train(
    config: Config,
    *,
    runs: Path = Path("runs"),
    name: str | None = None,
    prefix: str = "run",
    dry_run: bool = False,
    find_batch_size: bool = False,
    on_event: Listener = ignore,
) -> TrainSummary | TrainPlan | None:
    """Train a model from the start; where a launcher starts a failed training again, go on with the run that it began before.

    Args:
        config: What to do.
        runs: The folder of runs; the run's own folder is made in it.
        name: Of the run; numbered `prefix-001` and on if None.
        prefix: See `name`.
        dry_run: Stop before the first write and return the plan; what the run would be refused for is refused here too.
        find_batch_size: Take the largest batch that the memory has room for, see `with_found_batch_size`.
        on_event: Told of everything that happens.

    Returns:
        How the run ended, or the plan of a dry run; None if a launcher started again what had ended.

    Raises:
        RequestError: If something asked for cannot be had; nothing was written then.
        SaveFailedError: If the disk took no more; the checkpoints before are intact.
        InterruptedRunError: After a signal, when the run has been saved.
        DivergedError: If training produced no finite gradients.
        OutOfMemoryError: If the memory does not suffice; checkpoints are intact.
    """
    begun = begun_run(config.train, runs) if launch_key() and not dry_run else None
    if begun:
        return resume(begun.path, runs=runs, on_event=on_event)
    on_event = on_event if is_main() else ignore
    if is_main():  # it alone makes the folder
        check_new_run(runs, name, prefix)
    if find_batch_size:
        check_batch_search(config)
    config = checked(config)
    source = find_start(config, runs)
    config, dataset = with_data(config, on_event, source=source)

    from ddpm_cli.core.compute.determinism import deterministic_algorithms

    with deterministic_algorithms(config.train.deterministic):
        prepared = prepare(config, dataset, source, find_batch_size, on_event)
        if dry_run:
            on_event(TrainPlanned(prepared.plan))
            return prepared.plan
        return _begin(prepared, runs, name, prefix, on_event)


def plan_training(config: Config, *, on_event: Listener = ignore) -> TrainPlan:
    """Plan what a run of its own name would do and cost; nothing is written.

    Raises:
        RequestError: If the run would be refused.
    """
    from ddpm_cli.core.compute.determinism import deterministic_algorithms

    config = checked(config)
    source = find_start(config, Path("runs"))
    config, dataset = with_data(config, on_event, source=source)
    with deterministic_algorithms(config.train.deterministic):
        return prepare(config, dataset, source, False, on_event).plan


def _begin(prepared: Prepared, runs: Path, name: str | None, prefix: str, on_event: Listener) -> TrainSummary:
    from ddpm_cli.core.compute.team import Team
    from ddpm_cli.training.metrics import training_metrics

    config, dataset, accelerator, plan = prepared.config, prepared.dataset, prepared.accelerator, prepared.plan
    with Team.of(accelerator).watched():
        require_agreement(accelerator, dataset, plan.start)
        metrics = training_metrics(config, dataset, accelerator, on_event)
        run = new_run(accelerator, runs, name, prefix)
        if accelerator.is_main_process:
            _describe(run, config, dataset, _provenance(config, dataset, accelerator, plan.start))
        with _opened(run, accelerator.is_main_process) as folder:
            on_event = _with_pictures(run, folder, on_event)
            trackers = _trackers(config, run, accelerator, on_event)
            listen = _listener(run, folder, on_event, trackers)
            loop = _loop(config, dataset, accelerator, run, listen, metrics, folder, prepared.start)
            return _run(loop, replace(plan, run=run.path), on_event, trackers)


def resume(
    path: Path | None,
    *,
    runs: Path = Path("runs"),
    budget: Mapping[str, float | None] | None = None,
    device: str | None = None,
    deterministic: bool | None = None,
    sets: Sequence[str] = (),
    no_limits: bool = False,
    data_changed: bool = False,
    spelt: Callable[[str], str] = as_option,
    on_event: Listener = ignore,
) -> TrainSummary | None:
    """Go on with a run from its newest complete checkpoint; one that was stopped before its first starts from the beginning.

    Args:
        path: The run's folder, or its name below `runs`; None takes the newest.
        runs: The folder of runs.
        budget: New `epochs`, `steps` or `minutes`, to extend the run; they replace its old budget, and None leaves it.
        device: Another device than the one it was started on.
        deterministic: True to use deterministic kernels alone from here on.
        sets: `section.key=value` texts; settings that the rest of the run is to have, see `config.changes`.
        no_limits: Lift the limits on the images, time and memory that the run may ask for.
        data_changed: Go on with the images that there are now, where they are others than before.
        spelt: Spells the name of an argument as the user knows it; an option of a command if left out.
        on_event: Told of everything that happens.

    Returns:
        How the run ended, or None if it had ended before and was not extended.

    Raises:
        RunError: If there is no such run, or another process works in it.
        DataError: If its data have changed, and `data_changed` does not ask for that.
        ConfigError: If a setting cannot change in the middle of a run.
        CheckpointError: If the checkpoint does not fit the config, or there are checkpoints and all are damaged.
        SaveFailedError: If the disk took no more; the checkpoints before are intact.
        DivergedError: If training produced no finite gradients.
        OutOfMemoryError: If the memory does not suffice; checkpoints are intact.
    """
    run = find_run(runs, path)
    # Accelerate is not there yet to ask: its device stands in the config of the checkpoint.
    main = is_main()
    on_event = on_event if main else ignore
    with _opened(run, main) as folder, ExitStack() as stack:
        on_event = _with_pictures(run, folder, on_event)
        checkpoint = latest_checkpoint(run) if list_checkpoints(run) else None
        for notice in checkpoint.skipped if checkpoint else [f"{run.path} has no checkpoint yet and starts from the beginning."]:
            on_event(Notice(notice, important=True))
        stored = stored_config(run, checkpoint)
        config = change(stored, sets, resume_flags(budget, device, deterministic, spelt))
        if checkpoint:
            require_data(config, run.path)
        config = checked(config)
        new_budget = any(value is not None for value in (budget or {}).values())
        if checkpoint and not data_changed and is_finished(run, checkpoint, config, new_budget=new_budget):
            if folder:
                sweep_run(run)
            on_event(Notice(finished_notice(run, checkpoint.step, stopped=was_stopped(checkpoint))))
            return None

        from ddpm_cli.core.compute.determinism import deterministic_algorithms
        from ddpm_cli.core.compute.team import Team
        from ddpm_cli.training.averages.snapshots import remove_after
        from ddpm_cli.training.metrics import training_metrics
        from ddpm_cli.training.patience.watch import check_patience
        from ddpm_cli.training.planning.plan import make_plan
        from ddpm_cli.training.start.start import start_again

        stack.enter_context(deterministic_algorithms(config.train.deterministic))
        if checkpoint:
            check_architecture(config, checkpoint)
        config, dataset = with_data(config, on_event, trained_with=scale_of_run(run, checkpoint))
        since, data_change = data_since(run, checkpoint, config, dataset, data_changed=data_changed)
        accelerator = accelerator_for(config, dataset, on_event)
        start = None if checkpoint else start_again(config, dataset, run, on_event)
        with Team.of(accelerator).watched():
            require_agreement(accelerator, dataset, start.report if start else None)
            check_patience(config, dataset, on_event)
            start_step, bounds = checkpoint.step if checkpoint else 0, Bounds(lifted=no_limits, spelt=spelt)
            plan = make_plan(
                config,
                dataset,
                accelerator,
                on_event,
                run=run.path,
                start_step=start_step,
                bounds=bounds,
                start=start.report if start else None,
                since=since,
            )
            metrics = training_metrics(config, dataset, accelerator, on_event)
            trackers = _trackers(config, run, accelerator, on_event)
            listen = _listener(run, folder, on_event, trackers)
            loop = _loop(config, dataset, accelerator, run, listen, metrics, folder, start, since)
            if checkpoint:
                loop.restore(checkpoint, other_data=data_change is not None)
                if new_budget or data_change is not None or goes_on_otherwise(checkpoint, config):
                    loop.watch.restart()
            if folder:
                folder.check()  # decoding the data may have taken minutes
                sweep_run(run)
            if loop.is_finished:
                on_event(Notice(finished_notice(run, loop.trainer.step, stopped=loop.watch.stopped)))
                return None
            for text in resume_notices(loop.trainer, stored, run, new_budget=new_budget):
                on_event(Notice(text))
            if data_change:
                on_event(Notice(change_notice(data_change), important=True))
            if folder:
                folder.check()
                record_data(run, config, dataset, loop.trainer.step, data_change)
                MetricsLog(run.metrics_log).truncate_after(loop.logged_step)
                MetricsLog(run.incidents_log).truncate_after(loop.trainer.step)
                remove_after(run, loop.trainer.step)
                atomic_write(run.config_path, to_toml(config))
            accelerator.wait_for_everyone()
            return _run(loop, plan, on_event, trackers, checkpoint.state.get("launch") if checkpoint else last_launch(run))


@contextmanager
def _opened(run: RunDirectory, main: bool) -> Iterator[HeldFolder | None]:
    """Lock and hold the run's folder, on the process that writes to it."""
    if not main:
        yield None
        return
    with locked(run), held(run) as folder:
        yield folder


def _loop(
    config: Config,
    dataset: Dataset,
    accelerator: Accelerator,
    run: RunDirectory,
    listen: Listener,
    metrics: TrainingMetrics | None,
    folder: HeldFolder | None,
    start: Start | None = None,
    since: Since = FROM_THE_START,
) -> TrainingLoop:
    from ddpm_cli.core.compute.out_of_memory import out_of_memory
    from ddpm_cli.training.loop import TrainingLoop
    from ddpm_cli.training.planning.memory_report import network_error
    from ddpm_cli.training.trainer import Trainer

    with out_of_memory(partial(network_error, config)):
        trainer = Trainer(config, dataset, accelerator, listen, start=start, since=since)
    return TrainingLoop(trainer, dataset, run, to_toml(config), listen, metrics, folder)


def _run(
    loop: TrainingLoop, plan: TrainPlan, on_event: Listener, trackers: Trackers, before: Mapping[str, Any] | None = None
) -> TrainSummary:
    """Train; `before` is how the part that it goes on from was launched, if that is known."""
    from ddpm_cli.core.compute.out_of_memory import out_of_memory
    from ddpm_cli.training.planning.memory_report import training_error

    with (
        trackers.started(flatten(loop.trainer.config), loop.trainer.step),
        stop_on_signals() as stop,
        _telling_how_to_go_on(loop.run, loop.held),
        out_of_memory(partial(training_error, loop.trainer, loop.run)),
    ):
        on_event(TrainPlanned(plan))
        loop.trainer.compile()
        _note_launch(loop, before, on_event)
        summary = loop.train(stop)
    on_event(TrainEnded(summary))
    return summary


def _note_launch(loop: TrainingLoop, before: Mapping[str, Any] | None, on_event: Listener) -> None:
    """Say in what this launch differs from the one before, and keep in run.json how the run goes on from here."""
    if not loop.trainer.accelerator.is_main_process:
        return
    now = launch(loop.trainer.accelerator, compiled=loop.trainer.is_compiled)
    if notice := launch_notice(before, now):
        on_event(Notice(notice))
    record_launch(loop.run, loop.trainer.step, now)


@contextmanager
def _telling_how_to_go_on(run: RunDirectory, folder: HeldFolder | None) -> Iterator[None]:
    """Say of a disk that refuses to take more, or of a folder that went away under a file, what becomes of the run."""
    try:
        yield
    except RunMovedError:
        raise
    except OutputError as error:
        if folder and not folder.is_in_place:
            raise folder.moved(None) from error
        raise SaveFailedError(
            f"{error.message} Training stopped; the checkpoints before are intact.",
            f"{error.remedy} Then go on with: ddpm resume {run.shell_word}",
        ) from error


def _describe(run: RunDirectory, config: Config, dataset: Dataset, info: Mapping[str, Any]) -> None:
    """Write what makes a folder a run, or remove the folder: nothing could be done with it."""
    try:
        atomic_write(run.config_path, to_toml(config))
        keep_sums(run, config, dataset)
        write_info(run, info)
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise


def _provenance(config: Config, dataset: Dataset, accelerator: Accelerator, start: StartReport | None) -> dict[str, Any]:
    import torch

    from ddpm_cli.training.start.start import START

    on_cuda = accelerator.device.type == "cuda"
    return {
        **describe_start(config),
        "packages": {package: version(package) for package in PACKAGES},
        "device": str(accelerator.device),
        "device_name": torch.cuda.get_device_name(accelerator.device) if on_cuda else platform.processor(),
        "precision": precision_of(accelerator),
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "launch": launch_key(),
        "data": describe_data(dataset),
        **({START: asdict(start)} if start else {}),
    }


def _trackers(config: Config, run: RunDirectory, accelerator: Accelerator, on_event: Listener) -> Trackers:
    return Trackers(config.train.trackers if accelerator.is_main_process else (), run, on_event)


def _with_pictures(run: RunDirectory, folder: HeldFolder | None, on_event: Listener) -> Listener:
    """The caller's listener after the one that writes the pictures; processes that hold no folder write none."""
    return together(run_pictures(run), on_event) if folder else on_event


def _listener(run: RunDirectory, folder: HeldFolder | None, on_event: Listener, trackers: Trackers) -> Listener:
    """The guard, the recorder, the caller's listener, the trackers; processes that hold no folder record and draw nothing."""
    if folder is None:
        return ignore
    return together(guard(folder), recorder(run), on_event, trackers)
