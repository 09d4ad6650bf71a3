"""Start a run, or go on with one: everything around the training loop."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ddpm_cli import __version__
from ddpm_cli.config.loader import from_toml_text, override
from ddpm_cli.config.toml_text import to_toml
from ddpm_cli.diffusion.parameterization import check_parameterization
from ddpm_cli.engine.allocator import keep_freed_memory
from ddpm_cli.engine.begun_run import begun_run
from ddpm_cli.engine.budget import Budget
from ddpm_cli.engine.build import (
    build_dataset,
    build_model,
    build_parameterization,
    build_sampler,
    build_schedule,
    self_contained,
    with_classes,
)
from ddpm_cli.engine.device import resolve_device, resolve_precision
from ddpm_cli.engine.estimate import seconds_per_image, training_bytes
from ddpm_cli.engine.recorder import recorder
from ddpm_cli.engine.run_record import data_sha256, read_config
from ddpm_cli.engine.sharding import check_processes
from ddpm_cli.engine.signals import stop_on_signals
from ddpm_cli.engine.stored import check_architecture
from ddpm_cli.engine.team import LONGEST_WAIT, Team, begin_group_again
from ddpm_cli.engine.trainer import Trainer
from ddpm_cli.engine.training_loop import TrainingLoop
from ddpm_cli.engine.training_metrics import training_metrics
from ddpm_cli.errors import DataError, OutputError, SaveFailedError
from ddpm_cli.events import Event, Listener, Notice, TrainEnded, TrainPlan, TrainPlanned, TrainSummary, ignore
from ddpm_cli.files import atomic_write
from ddpm_cli.launch import is_main, launch_key, on_one_machine, processes, restarts
from ddpm_cli.models.cost import forward_flops, parameter_count
from ddpm_cli.runs.checkpoints import latest_checkpoint, list_checkpoints
from ddpm_cli.runs.directory import RunDirectory, create_run, find_run, write_info
from ddpm_cli.runs.lock import locked
from ddpm_cli.runs.metrics_log import MetricsLog

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema import Config
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.engine.training_metrics import TrainingMetrics
    from ddpm_cli.models.unet import UNet

PACKAGES = ("torch", "torchvision", "accelerate", "numpy", "safetensors", "pillow")


def train(
    config: Config,
    *,
    runs: Path = Path("runs"),
    name: str | None = None,
    prefix: str = "run",
    dry_run: bool = False,
    on_event: Listener = ignore,
) -> TrainSummary | TrainPlan | None:
    """Train a model from the start; where a launcher starts a failed training again, go on with the run that it began before.

    Args:
        config: What to do.
        runs: The folder of runs; the run's own folder is made in it.
        name: Of the run; numbered `prefix-001` and on if None.
        prefix: See `name`.
        dry_run: Resolve everything, return the plan, and write nothing.
        on_event: Told of everything that happens.

    Returns:
        How the run ended, or the plan of a dry run; None if a launcher started again what had ended.

    Raises:
        RequestError: If something asked for cannot be had; nothing was written then.
        SaveFailedError: If the disk took no more; the checkpoints before are intact.
        InterruptedRunError: After a signal, when the run has been saved.
        DivergedError: If training produced no finite gradients.
    """
    begun = _begun_run(config, runs) if launch_key() and not dry_run else None
    if begun:
        return resume(begun.path, runs=runs, on_event=on_event)
    config, accelerator, dataset = _resolve(config, on_event)
    if dry_run:
        plan = make_plan(config, dataset, accelerator, None, 0)
        on_event(TrainPlanned(plan))
        return plan
    on_event = on_event if accelerator.is_main_process else ignore
    with Team.of(accelerator).watched():
        metrics = training_metrics(config, dataset, accelerator, on_event)
        run = _new_run(accelerator, runs, name, prefix)
        if accelerator.is_main_process:
            _describe(run, config, _provenance(config, dataset, accelerator))
        with locked(run) if accelerator.is_main_process else nullcontext():
            loop = _loop(config, dataset, accelerator, run, _listener(run, accelerator, on_event), metrics)
            return _run(loop, dataset, on_event)


def resume(
    path: Path | None,
    *,
    runs: Path = Path("runs"),
    budget: dict[str, Any] | None = None,
    device: str | None = None,
    on_event: Listener = ignore,
) -> TrainSummary | None:
    """Go on with a run from its newest complete checkpoint; one that was stopped before its first starts from the beginning.

    Args:
        path: The run's folder, or its name below `runs`; None takes the newest.
        runs: The folder of runs.
        budget: New `epochs`, `steps` or `minutes`, to extend the run; they replace its old budget.
        device: Another device than the one it was started on.
        on_event: Told of everything that happens.

    Returns:
        How the run ended, or None if it had ended before and was not extended.

    Raises:
        RunError: If there is no such run, another process works in it, or its data have changed.
        CheckpointError: If the checkpoint does not fit the config, or there are checkpoints and all are damaged.
        SaveFailedError: If the disk took no more; the checkpoints before are intact.
    """
    run = find_run(runs, path)
    # Accelerate is not there yet to ask: its device stands in the config of the checkpoint.
    main = is_main()
    on_event = on_event if main else ignore
    with locked(run) if main else nullcontext():
        checkpoint = latest_checkpoint(run) if list_checkpoints(run) else None
        for notice in checkpoint.skipped if checkpoint else [f"{run.path} has no checkpoint yet and starts from the beginning."]:
            on_event(Notice(notice, important=True))
        stored = from_toml_text(checkpoint.config_toml, str(checkpoint.path)) if checkpoint else read_config(run)
        config = _extended(stored, budget, device)
        if checkpoint:
            check_architecture(config, checkpoint)
        config, accelerator, dataset = _resolve(config, on_event)
        if dataset.sha256 != (checkpoint.state["data_sha256"] if checkpoint else data_sha256(run)):
            raise DataError(
                f"{dataset.source} holds other training images than the run {run.path} was trained on.",
                "Bring the same data back (see run.json), or start a new run.",
            )
        with Team.of(accelerator).watched():
            metrics = training_metrics(config, dataset, accelerator, on_event)
            loop = _loop(config, dataset, accelerator, run, _listener(run, accelerator, on_event), metrics)
            if checkpoint:
                loop.restore(checkpoint)
            if main:
                run.sweep()
            if loop.is_finished:
                on_event(Notice(_finished(run, loop.trainer.step)))
                return None
            if budget:
                on_event(Notice(_new_learning_rate(config, loop.trainer)))
            if main:
                MetricsLog(run.metrics_log).truncate_after(loop.logged_step)
                atomic_write(run.config_path, to_toml(config))
            accelerator.wait_for_everyone()
            return _run(loop, dataset, on_event)


def _finished(run: RunDirectory, step: int) -> str:
    return (
        f"{run.path} is finished at step {step:,}; there is nothing left to do. "
        f"Extend it with --epochs, --steps or --minutes, for example: ddpm resume {run.path} --steps {2 * step}"
    )


def _new_learning_rate(config: Config, trainer: Trainer) -> str:
    if config.optimizer.decay == "constant":
        return f"The learning rate stays at {trainer.lr():.2e}: it is constant, whatever the budget."
    return (
        f"The learning rate now falls ({config.optimizer.decay}) over the new budget: it goes on from {trainer.lr():.2e}, "
        f"where the new curve stands at step {trainer.step:,}."
    )


def _extended(config: Config, budget: dict[str, Any] | None, device: str | None) -> Config:
    flags: dict[str, tuple[Any, str]] = {f"train.{key}": (value, f"--{key}") for key, value in (budget or {}).items()}
    return override(config, flags=flags | {"train.device": (device, "--device")})


def _resolve(config: Config, on_event: Listener) -> tuple[Config, Accelerator, Dataset]:
    """Check everything that can be wrong before anything is written, and fill in what the config leaves to the data."""
    config = self_contained(config)
    accelerator = make_accelerator(config.train.device, config.train.precision)
    check_processes(config.train, accelerator, on_event if accelerator.is_main_process else ignore)
    dataset = build_dataset(config.data, on_event if accelerator.is_main_process else ignore)
    if len(dataset.train.images) == 0:
        raise DataError(f"{dataset.source} has no images to train on.", "Name another data set.")
    config = with_classes(config, dataset.train.class_names)
    schedule = build_schedule(config.schedule)
    check_parameterization(build_parameterization(config.objective), schedule)
    build_sampler(config.train.sampler, schedule)
    build_sampler(config.sample.sampler, schedule)
    with torch.device("meta"):
        _build_model(config, dataset)
    if accelerator.is_main_process:
        for notice in dataset.notices:
            on_event(Notice(notice, important=True))
    return config, accelerator, dataset


def make_accelerator(device_name: str, precision: str) -> Accelerator:
    """Accelerate's handle on device, precision and processes; under `torchrun` each process takes its own device.

    Raises:
        DeviceError: If this machine lacks the device or the precision.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import InitProcessGroupKwargs

    keep_freed_memory()
    device = resolve_device(device_name)
    if processes() == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    elif restarts() and on_one_machine() and not torch.distributed.is_initialized():
        begin_group_again(device)
    mixed = {"fp32": "no"}.get(resolved := resolve_precision(precision, device), resolved)
    group = InitProcessGroupKwargs(timeout=LONGEST_WAIT)
    return Accelerator(mixed_precision=mixed, cpu=device.type == "cpu", kwargs_handlers=[group])


def _begun_run(config: Config, runs: Path) -> RunDirectory | None:
    return begun_run(make_accelerator(config.train.device, config.train.precision), runs)


def _new_run(accelerator: Accelerator, runs: Path, name: str | None, prefix: str) -> RunDirectory:
    """Made by the main process; the others are told its name."""
    from accelerate.utils import broadcast_object_list

    paths = [str(create_run(runs, name, prefix).path) if accelerator.is_main_process else ""]
    if accelerator.num_processes > 1:
        broadcast_object_list(paths)
    return RunDirectory(Path(paths[0]))


def _loop(
    config: Config, dataset: Dataset, accelerator: Accelerator, run: RunDirectory, listen: Listener, metrics: TrainingMetrics | None
) -> TrainingLoop:
    trainer = Trainer(config, dataset, accelerator, listen)
    return TrainingLoop(trainer, dataset, run, to_toml(config), listen, metrics)


def _run(loop: TrainingLoop, dataset: Dataset, on_event: Listener) -> TrainSummary:
    trainer = loop.trainer
    on_event(TrainPlanned(make_plan(loop.config, dataset, loop.accelerator, loop.run.path, trainer.step)))
    with stop_on_signals() as stop, _telling_how_to_go_on(loop.run):
        summary = loop.train(stop)
    on_event(TrainEnded(summary))
    return summary


@contextmanager
def _telling_how_to_go_on(run: RunDirectory) -> Iterator[None]:
    """Say of a disk that refuses to take more what becomes of the run."""
    try:
        yield
    except OutputError as error:
        raise SaveFailedError(
            f"{error.message} Training stopped; the checkpoints before are intact.",
            f"{error.remedy} Then go on with: ddpm resume {run.path}",
        ) from error


def _describe(run: RunDirectory, config: Config, info: Mapping[str, Any]) -> None:
    """Write what makes a folder a run, or remove the folder: nothing could be done with it."""
    try:
        atomic_write(run.config_path, to_toml(config))
        write_info(run, info)
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise


def _build_model(config: Config, dataset: Dataset) -> UNet:
    return build_model(config.model, dataset.image_shape, learned_variance=config.objective.reverse_variance == "learned-range")


def make_plan(config: Config, dataset: Dataset, accelerator: Accelerator, run: Path | None, start_step: int) -> TrainPlan:
    """What the run will do and cost; a few passes through a copy of the network are timed for it."""
    model = _build_model(config, dataset)
    train, processes = config.train, accelerator.num_processes
    share = -(-train.batch_size // processes)
    micro = min(train.micro_batch_size or share, share)
    budget = Budget.of(train, len(dataset.train.images))
    seconds = seconds_per_image(model, dataset.image_shape, micro, accelerator.device) * train.batch_size / processes
    by_steps = None if budget.steps is None else max(budget.steps - start_step, 0) * seconds
    limits = [limit for limit in (by_steps, budget.seconds) if limit is not None]
    precision = {"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)
    return TrainPlan(
        run=run,
        data=dataset.name,
        data_source=dataset.source,
        train_images=len(dataset.train.images),
        held_out_images=min(len(dataset.test.images), train.eval_images),
        image_shape=dataset.image_shape,
        parameters=parameter_count(model),
        flops_per_image=forward_flops(model, dataset.image_shape),
        device=str(accelerator.device),
        precision=precision,
        processes=processes,
        batch_size=train.batch_size,
        objective=_objective(config),
        start_step=start_step,
        total_steps=budget.steps,
        minutes=train.minutes,
        epochs=None if budget.steps is None else budget.steps * train.batch_size / len(dataset.train.images),
        estimated_seconds=min(limits),
        estimated_bytes=training_bytes(model, dataset.image_shape, micro),
    )


def _objective(config: Config) -> str:
    classes = f", {config.model.num_classes} classes" if config.model.num_classes else ""
    schedule, objective = config.schedule, config.objective
    loss = "" if objective.loss.kind == "simple" else f" by the {objective.loss.kind} loss"
    return f"{objective.parameterization.kind}-prediction{loss}, {schedule.kind} schedule, T = {schedule.timesteps}{classes}"


def _provenance(config: Config, dataset: Dataset, accelerator: Accelerator) -> dict[str, Any]:
    return {
        "created": time.time(),
        "command": sys.argv,
        "ddpm": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package: version(package) for package in PACKAGES},
        "device": str(accelerator.device),
        "device_name": torch.cuda.get_device_name(accelerator.device)
        if accelerator.device.type == "cuda"
        else platform.processor(),
        "precision": accelerator.mixed_precision,
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "seed": config.train.seed,
        "launch": launch_key(),
        "data": {
            "name": dataset.name,
            "source": dataset.source,
            "train_images": len(dataset.train.images),
            "test_images": len(dataset.test.images),
            "image_shape": list(dataset.image_shape),
            "channels": dataset.image_shape[0],
            "classes": list(dataset.train.class_names),
            "sha256": dataset.sha256,
            "notices": list(dataset.notices),
            "unreadable_count": len(dataset.unreadable),
            "unreadable": list(dataset.unreadable),
        },
    }


def _listener(run: RunDirectory, accelerator: Accelerator, on_event: Listener) -> Listener:
    """The recorder, then the caller's listener; the other processes record and draw nothing."""
    if not accelerator.is_main_process:
        return ignore
    record = recorder(run)

    def listen(event: Event) -> None:
        record(event)
        on_event(event)

    return listen
