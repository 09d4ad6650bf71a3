"""Start a run, or go on with one: everything around the training loop."""

from __future__ import annotations

import os
import platform
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ddpm_cli import __version__
from ddpm_cli.config.loader import from_toml_text, override
from ddpm_cli.config.toml_text import to_toml
from ddpm_cli.diffusion.parameterization import check_parameterization
from ddpm_cli.engine.allocator import keep_freed_memory
from ddpm_cli.engine.batch_size import with_found_batch_size
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
from ddpm_cli.engine.memory_report import network_memory, training_memory
from ddpm_cli.engine.plan import make_plan
from ddpm_cli.engine.recorder import recorder
from ddpm_cli.engine.signals import stop_on_signals
from ddpm_cli.engine.trainer import Trainer
from ddpm_cli.engine.training_loop import TrainingLoop
from ddpm_cli.engine.training_metrics import training_metrics
from ddpm_cli.errors import DataError
from ddpm_cli.events import Event, Listener, Notice, TrainEnded, TrainPlan, TrainPlanned, TrainSummary, ignore
from ddpm_cli.files import atomic_write
from ddpm_cli.runs.checkpoints import latest_checkpoint
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
    find_batch_size: bool = False,
    on_event: Listener = ignore,
) -> TrainSummary | TrainPlan:
    """Train a model from the start.

    Args:
        config: What to do.
        runs: The folder of runs; the run's own folder is made in it.
        name: Of the run; numbered `prefix-001` and on if None.
        prefix: See `name`.
        dry_run: Resolve everything, return the plan, and write nothing.
        find_batch_size: Take the largest batch that the memory has room for, see `with_found_batch_size`.
        on_event: Told of everything that happens.

    Returns:
        How the run ended, or the plan of a dry run.

    Raises:
        RequestError: If something asked for cannot be had; nothing was written then.
        InterruptedRunError: After a signal, when the run has been saved.
        DivergedError: If training produced no finite gradients.
        OutOfMemoryError: If the memory does not suffice; checkpoints are intact.
    """
    config, accelerator, dataset = _resolve(config, on_event)
    if find_batch_size:
        config = with_found_batch_size(config, dataset, accelerator)
    on_event = on_event if accelerator.is_main_process else ignore
    if find_batch_size:
        on_event(Notice(_unscaled_learning_rate(config), important=True))
    plan = make_plan(config, dataset, accelerator, on_event, refuse=not dry_run, batch_size_found=find_batch_size)
    if dry_run:
        on_event(TrainPlanned(plan))
        return plan
    metrics = training_metrics(config, dataset, accelerator, on_event)
    run = _new_run(accelerator, runs, name, prefix)
    with locked(run) if accelerator.is_main_process else nullcontext():
        if accelerator.is_main_process:
            atomic_write(run.config_path, to_toml(config))
            write_info(run, _provenance(config, dataset, accelerator))
        plan = replace(plan, run=run.path)
        loop = _loop(config, dataset, accelerator, run, _listener(run, accelerator, on_event), metrics)
        return _run(loop, plan, on_event)


def resume(
    path: Path | None,
    *,
    runs: Path = Path("runs"),
    budget: dict[str, Any] | None = None,
    device: str | None = None,
    on_event: Listener = ignore,
) -> TrainSummary | None:
    """Go on with a run from its newest complete checkpoint.

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
        CheckpointError: If the checkpoint does not fit the config.
        OutOfMemoryError: If the memory does not suffice; checkpoints are intact.
    """
    run = find_run(runs, path, need_checkpoint=True)
    # Accelerate is not there yet to ask: its device stands in the config of the checkpoint.
    main = os.environ.get("RANK", "0") == "0"
    on_event = on_event if main else ignore
    with locked(run) if main else nullcontext():
        checkpoint = latest_checkpoint(run)
        for skipped in checkpoint.skipped:
            on_event(Notice(skipped, important=True))
        config = _extended(from_toml_text(checkpoint.config_toml, str(checkpoint.path)), budget, device)
        config, accelerator, dataset = _resolve(config, on_event)
        if dataset.sha256 != checkpoint.state["data_sha256"]:
            raise DataError(
                f"{dataset.source} holds other training images than the run {run.path} was trained on.",
                "Bring the same data back (see run.json), or start a new run.",
            )
        plan = make_plan(config, dataset, accelerator, on_event, run=run.path, start_step=checkpoint.step)
        metrics = training_metrics(config, dataset, accelerator, on_event)
        loop = _loop(config, dataset, accelerator, run, _listener(run, accelerator, on_event), metrics)
        loop.restore(checkpoint)
        if loop.trainer.share >= 1:
            on_event(Notice(_finished(run, loop.trainer.step)))
            return None
        if budget:
            on_event(Notice(_new_learning_rate(config, loop.trainer)))
        if main:
            run.sweep()
            MetricsLog(run.metrics_log).truncate_after(checkpoint.step)
            atomic_write(run.config_path, to_toml(config))
        accelerator.wait_for_everyone()
        return _run(loop, plan, on_event)


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


def _unscaled_learning_rate(config: Config) -> str:
    return (
        f"--batch-size auto takes {config.train.batch_size:,} images, and leaves the learning rate at {config.optimizer.lr:g}: "
        "it was chosen for another batch, so look at the first losses, and set --lr if they want it."
    )


def _extended(config: Config, budget: dict[str, Any] | None, device: str | None) -> Config:
    flags: dict[str, tuple[Any, str]] = {f"train.{key}": (value, f"--{key}") for key, value in (budget or {}).items()}
    return override(config, flags=flags | {"train.device": (device, "--device")})


def _resolve(config: Config, on_event: Listener) -> tuple[Config, Accelerator, Dataset]:
    """Check everything that can be wrong before anything is written, and fill in what the config leaves to the data."""
    config = self_contained(config)
    accelerator = make_accelerator(config.train.device, config.train.precision)
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

    keep_freed_memory()
    device = resolve_device(device_name)
    distributed = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if not distributed:
        AcceleratorState._reset_state(reset_partial_state=True)
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    mixed = {"fp32": "no"}.get(resolved := resolve_precision(precision, device), resolved)
    return Accelerator(mixed_precision=mixed, cpu=device.type == "cpu")


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
    with network_memory():
        trainer = Trainer(config, dataset, accelerator, listen)
    return TrainingLoop(trainer, dataset, run, to_toml(config), listen, metrics)


def _run(loop: TrainingLoop, plan: TrainPlan, on_event: Listener) -> TrainSummary:
    on_event(TrainPlanned(plan))
    with stop_on_signals() as stop, training_memory(loop.trainer, loop.run):
        summary = loop.train(stop)
    on_event(TrainEnded(summary))
    return summary


def _build_model(config: Config, dataset: Dataset) -> UNet:
    return build_model(config.model, dataset.image_shape, learned_variance=config.objective.reverse_variance == "learned-range")


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
