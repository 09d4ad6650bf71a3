"""Start a run, or go on with one: everything around the training loop.

What is wrong with a request is found before torch is imported, as far as that can be: heavy imports stay inside the functions.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_cli.build.data import build_dataset
from ddpm_cli.build.network import build_network, with_classes
from ddpm_cli.build.sampler import check_steps
from ddpm_cli.build.schedule import build_schedule, self_contained
from ddpm_cli.config.resolve.changes import change
from ddpm_cli.config.resolve.layers import flatten
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.core.asking import as_option
from ddpm_cli.core.compute.device import check_device, check_precision, precision_of
from ddpm_cli.core.compute.signals import stop_on_signals
from ddpm_cli.core.io.files import atomic_write
from ddpm_cli.core.launch import is_main, launch_key
from ddpm_cli.errors import DataError, OutputError, RequestError, RunMovedError, SaveFailedError
from ddpm_cli.results.events import Listener, Notice, TrainEnded, TrainPlan, TrainPlanned, TrainSummary, ignore, together
from ddpm_cli.runs.checkpoints import latest_checkpoint, list_checkpoints
from ddpm_cli.runs.data_used import with_data_used
from ddpm_cli.runs.directory import check_new_run, find_run, sweep_run, write_info
from ddpm_cli.runs.held_folder import HeldFolder, held
from ddpm_cli.runs.launch_record import launch, launch_notice
from ddpm_cli.runs.launches import last_launch, record_launch
from ddpm_cli.runs.lock import locked
from ddpm_cli.runs.metrics_log import MetricsLog
from ddpm_cli.runs.provenance import describe_data, describe_start, describe_teacher
from ddpm_cli.runs.record import data_sha256
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.file_bounds import Bounds
from ddpm_cli.sampling.stored import check_architecture, require_data
from ddpm_cli.training.distillation.teacher import Start, Teacher, starting_weights, with_teacher
from ddpm_cli.training.logging.pictures import run_pictures
from ddpm_cli.training.logging.recorder import guard, recorder
from ddpm_cli.training.logging.trackers import Trackers, check_trackers
from ddpm_cli.training.processes import begun_run, check_processes, new_run, require_agreement
from ddpm_cli.training.resume import finished_notice, is_finished, resume_flags, resume_notices, stored_config

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.training.loop import TrainingLoop
    from ddpm_cli.training.metrics import TrainingMetrics

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
        _check_batch_search(config)
    config, teacher = with_teacher(_checked(config))
    config, dataset = _with_data(config, on_event)

    from ddpm_cli.core.compute.determinism import deterministic_algorithms

    with deterministic_algorithms(config.train.deterministic):
        prepared = _prepare(config, dataset, teacher, find_batch_size, on_event)
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

    config, teacher = with_teacher(_checked(config))
    config, dataset = _with_data(config, on_event)
    with deterministic_algorithms(config.train.deterministic):
        return _prepare(config, dataset, teacher, False, on_event).plan


@dataclass(frozen=True)
class _Prepared:
    """Hold a run of which nothing is written yet, and nothing is left to refuse."""

    config: Config
    dataset: Dataset
    accelerator: Accelerator
    plan: TrainPlan
    start: Start | None


def _prepare(config: Config, dataset: Dataset, teacher: Teacher | None, find_batch_size: bool, on_event: Listener) -> _Prepared:
    from ddpm_cli.training.metrics import check_training_metrics
    from ddpm_cli.training.planning.plan import make_plan

    accelerator = _accelerator_for(config, dataset, on_event)
    check_training_metrics(config, dataset)
    start = starting_weights(teacher, config, dataset.image_shape) if teacher else None
    if find_batch_size:
        from ddpm_cli.training.planning.batch_size import with_found_batch_size

        config = with_found_batch_size(config, dataset, accelerator)
        on_event(Notice(_unscaled_learning_rate(config), important=True))
    plan = make_plan(config, dataset, accelerator, on_event, batch_size_found=find_batch_size)
    return _Prepared(config, dataset, accelerator, plan, start)


def _begin(prepared: _Prepared, runs: Path, name: str | None, prefix: str, on_event: Listener) -> TrainSummary:
    from ddpm_cli.core.compute.team import Team
    from ddpm_cli.training.metrics import training_metrics

    config, dataset, accelerator, plan = prepared.config, prepared.dataset, prepared.accelerator, prepared.plan
    with Team.of(accelerator).watched():
        require_agreement(accelerator, dataset, prepared.start)
        metrics = training_metrics(config, dataset, accelerator, on_event)
        run = new_run(accelerator, runs, name, prefix)
        if accelerator.is_main_process:
            _describe(run, config, _provenance(config, dataset, accelerator))
        with _opened(run, accelerator.is_main_process) as folder:
            on_event = _with_pictures(run, folder, on_event)
            trackers = _trackers(config, run, accelerator, on_event)
            loop = _loop(config, dataset, accelerator, run, _listener(run, folder, on_event, trackers), metrics, folder)
            if prepared.start:
                loop.trainer.start_from(prepared.start)
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
        spelt: Spells the name of an argument as the user knows it; an option of a command if left out.
        on_event: Told of everything that happens.

    Returns:
        How the run ended, or None if it had ended before and was not extended.

    Raises:
        RunError: If there is no such run, another process works in it, or its data have changed.
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
        config = _checked(config)
        teacher = None if checkpoint else with_teacher(config)[1]
        if checkpoint and is_finished(run, checkpoint, config):
            if folder:
                sweep_run(run)
            on_event(Notice(finished_notice(run, checkpoint.step)))
            return None

        from ddpm_cli.core.compute.determinism import deterministic_algorithms
        from ddpm_cli.core.compute.team import Team
        from ddpm_cli.training.metrics import training_metrics
        from ddpm_cli.training.planning.plan import make_plan

        stack.enter_context(deterministic_algorithms(config.train.deterministic))
        if checkpoint:
            check_architecture(config, checkpoint)
        config, dataset = _with_data(config, on_event, trained_on=True)
        if dataset.sha256 != (checkpoint.state["data_sha256"] if checkpoint else data_sha256(run)):
            raise DataError(
                f"{dataset.source} holds other training images than the run {run.path} was trained on.",
                "Bring the same data back (see run.json), or start a new run.",
            )
        accelerator = _accelerator_for(config, dataset, on_event)
        with Team.of(accelerator).watched():
            require_agreement(accelerator, dataset)
            start_step, bounds = checkpoint.step if checkpoint else 0, Bounds(lifted=no_limits, spelt=spelt)
            plan = make_plan(config, dataset, accelerator, on_event, run=run.path, start_step=start_step, bounds=bounds)
            metrics = training_metrics(config, dataset, accelerator, on_event)
            trackers = _trackers(config, run, accelerator, on_event)
            loop = _loop(config, dataset, accelerator, run, _listener(run, folder, on_event, trackers), metrics, folder)
            if checkpoint:
                loop.restore(checkpoint)
            elif teacher:
                loop.trainer.start_from(starting_weights(teacher, config, dataset.image_shape))
            if folder:
                folder.check()  # decoding the data may have taken minutes
                sweep_run(run)
            if loop.is_finished:
                on_event(Notice(finished_notice(run, loop.trainer.step)))
                return None
            new_budget = any(value is not None for value in (budget or {}).values())
            for text in resume_notices(loop.trainer, stored, run, new_budget=new_budget):
                on_event(Notice(text))
            if folder:
                folder.check()
                MetricsLog(run.metrics_log).truncate_after(loop.logged_step)
                MetricsLog(run.incidents_log).truncate_after(loop.trainer.step)
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


def _unscaled_learning_rate(config: Config) -> str:
    return (
        f"--batch-size auto takes {config.train.batch_size:,} images, and leaves the learning rate at {config.optimizer.lr:g}: "
        "it was chosen for another batch, so look at the first losses, and set --lr if they want it."
    )


def _checked(config: Config) -> Config:
    """Check all that can be wrong with a config by itself, here; a config that means the same elsewhere. Imports no torch."""
    check_device(config.train.device)
    check_precision(config.train.precision, config.train.device)
    check_trackers(config.train.trackers)
    config = self_contained(config)
    check_steps(config.schedule, config.train.sampler, config.sample.sampler)
    return config


def _with_data(config: Config, on_event: Listener, *, trained_on: bool = False) -> tuple[Config, Dataset]:
    """The config with what it leaves to the data, and these. Imports no torch, unless the data have to be downloaded."""
    dataset = build_dataset(config.data, on_event, trained_on=trained_on)
    if len(dataset.train.images) == 0:
        raise DataError(f"{dataset.source} has no images to train on.", "Name another data set.")
    config = with_classes(with_data_used(config, dataset), dataset.train.class_names, dataset.label_columns)
    for notice in dataset.notices:
        on_event(Notice(notice, important=True))
    return config, dataset


def _accelerator_for(config: Config, dataset: Dataset, on_event: Listener) -> Accelerator:
    """The device and the processes, after all was checked that torch is needed for."""
    import torch

    from ddpm_cli.core.compute.team import make_accelerator
    from ddpm_cli.diffusion.prediction import check_prediction

    accelerator = make_accelerator(config.train.device, config.train.precision)
    check_processes(config.train, accelerator, on_event)
    schedule = build_schedule(config.schedule)
    check_prediction(config.objective.build_prediction(), schedule)
    config.train.sampler.prepare(schedule)
    config.sample.sampler.prepare(schedule)
    with torch.device("meta"):
        build_network(config, dataset.image_shape)
    return accelerator


def _check_batch_search(config: Config) -> None:
    if config.train.micro_batch_size is not None:
        raise RequestError(
            "With train.micro_batch_size any batch fits into the memory, so that the batch size auto has nothing to find.",
            "Give the batch size a number, or leave train.micro_batch_size out.",
        )


def _loop(
    config: Config,
    dataset: Dataset,
    accelerator: Accelerator,
    run: RunDirectory,
    listen: Listener,
    metrics: TrainingMetrics | None,
    folder: HeldFolder | None,
) -> TrainingLoop:
    from ddpm_cli.core.compute.out_of_memory import out_of_memory
    from ddpm_cli.training.loop import TrainingLoop
    from ddpm_cli.training.planning.memory_report import network_error
    from ddpm_cli.training.trainer import Trainer

    with out_of_memory(network_error):
        trainer = Trainer(config, dataset, accelerator, listen)
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


def _describe(run: RunDirectory, config: Config, info: Mapping[str, Any]) -> None:
    """Write what makes a folder a run, or remove the folder: nothing could be done with it."""
    try:
        atomic_write(run.config_path, to_toml(config))
        write_info(run, info)
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise


def _provenance(config: Config, dataset: Dataset, accelerator: Accelerator) -> dict[str, Any]:
    import torch

    on_cuda = accelerator.device.type == "cuda"
    return {
        **describe_start(config),
        **describe_teacher(config),
        "packages": {package: version(package) for package in PACKAGES},
        "device": str(accelerator.device),
        "device_name": torch.cuda.get_device_name(accelerator.device) if on_cuda else platform.processor(),
        "precision": precision_of(accelerator),
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "launch": launch_key(),
        "data": describe_data(dataset),
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
