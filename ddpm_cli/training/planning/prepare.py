"""Prepare a run before anything of it is written: its data, its first weights, and all that can be refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddpm_cli.build.data import build_dataset
from ddpm_cli.build.network import build_network, with_classes
from ddpm_cli.build.sampler import check_steps
from ddpm_cli.build.schedule import build_schedule, self_contained
from ddpm_cli.config.schema.schedule import LearnedSchedule
from ddpm_cli.core.compute.device import check_device, check_precision
from ddpm_cli.core.wording import counted
from ddpm_cli.errors import DataError, RequestError
from ddpm_cli.results.events import Listener, Notice, TrainPlan
from ddpm_cli.runs.data_used import with_data_used
from ddpm_cli.training.logging.trackers import check_trackers
from ddpm_cli.training.processes import check_processes
from ddpm_cli.training.start.adapt import adapted

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.training.start.source import Source
    from ddpm_cli.training.start.start import Start


@dataclass(frozen=True)
class Prepared:
    """Hold a run of which nothing is written yet, and nothing is left to refuse.

    Attributes:
        config: Resolved.
        dataset: Its data.
        accelerator: Device, precision and processes.
        plan: What it will do and cost.
        start: Trained weights that it begins with; None for random ones.
    """

    config: Config
    dataset: Dataset
    accelerator: Accelerator
    plan: TrainPlan
    start: Start | None


def prepare(config: Config, dataset: Dataset, source: Source | None, find_batch_size: bool, on_event: Listener) -> Prepared:
    """Resolve a run with its data as far as it can be before anything is written.

    Args:
        config: Of the run, with its data.
        dataset: Its data.
        source: Of its first weights; None for random ones.
        find_batch_size: Take the largest batch that the memory has room for.
        on_event: Told of what is to be known before.
    Raises:
        RequestError: If it cannot be trained.
        OutOfMemoryError: If the memory does not suffice.
    """
    from ddpm_cli.training.metrics import check_training_metrics
    from ddpm_cli.training.patience.watch import check_patience
    from ddpm_cli.training.planning.plan import make_plan
    from ddpm_cli.training.start.start import prepare_start

    accelerator = accelerator_for(config, dataset, on_event)
    check_training_metrics(config, dataset)
    check_patience(config, dataset, on_event)
    if find_batch_size:
        from ddpm_cli.training.planning.batch_size import with_found_batch_size

        config = with_found_batch_size(config, dataset, accelerator)
        on_event(Notice(_unscaled_learning_rate(config), important=True))
    start = prepare_start(config, dataset, source, on_event) if source else None
    report = start.report if start else None
    plan = make_plan(config, dataset, accelerator, on_event, batch_size_found=find_batch_size, start=report)
    return Prepared(config, dataset, accelerator, plan, start)


def checked(config: Config) -> Config:
    """Check all that can be wrong with a config by itself, here; give one that means the same elsewhere. Imports no torch.

    Raises:
        RequestError: If something is.
    """
    check_device(config.train.device)
    check_precision(config.train.precision, config.train.device)
    check_trackers(config.train.trackers)
    config = self_contained(config)
    check_steps(config.schedule, config.train.sampler, config.sample.sampler)
    return config


def with_data(
    config: Config, on_event: Listener, *, trained_on: bool = False, source: Source | None = None
) -> tuple[Config, Dataset]:
    """Load the data, and complete the config by what it leaves to them. Imports no torch, unless they have to be downloaded.

    Args:
        config: Checked.
        on_event: Told of downloads and notices.
        trained_on: Whether a run goes on with them.
        source: Of the first weights of a new run.
    Raises:
        DataError: If they cannot be had or hold nothing to train on.
        ConfigError: If they have other classes than the config says.
    """
    dataset = build_dataset(config.data, on_event, trained_on=trained_on)
    if len(dataset.train.images) == 0:
        raise DataError(f"{dataset.source} has no images to train on.", "Name another data set.")
    config = with_data_used(config, dataset)
    if trained_on:
        _require_as_many_classes(config, dataset)
    config = adapted(config, source, dataset, on_event) if source else config
    config = with_classes(config, dataset.train.class_names, dataset.label_columns)
    config = config.model_copy(update={"schedule": config.schedule.for_images(dataset.image_shape)})
    for notice in dataset.notices:
        on_event(Notice(notice, important=True))
    return config, dataset


def _require_as_many_classes(config: Config, dataset: Dataset) -> None:
    wanted, found = config.model.num_classes, len(dataset.train.class_names)
    if isinstance(wanted, int) and wanted != found:
        raise DataError(
            f"{dataset.source} has {counted(found, 'class', 'classes')} now, and the run was begun with {wanted}.",
            "Bring the classes back, or start a new run, which takes over those that both have: ddpm train --from RUN --data DATA",
        )


def accelerator_for(config: Config, dataset: Dataset, on_event: Listener) -> Accelerator:
    """Find the device and the processes, after all was checked that torch is needed for.

    Raises:
        RequestError: If schedule, prediction, samplers or network do not fit together, or a bound is asked for of floats.
    """
    import torch

    from ddpm_cli.core.compute.team import make_accelerator
    from ddpm_cli.diffusion.prediction import check_prediction

    _require_values(config, dataset)
    accelerator = make_accelerator(config.train.device, config.train.precision)
    check_processes(config.train, accelerator, on_event)
    schedule = build_schedule(config.schedule)
    check_prediction(config.objective.build_prediction(), schedule)
    config.train.sampler.prepare(schedule)
    config.sample.prepare(schedule)
    with torch.device("meta"):
        build_network(config, dataset.image_shape)
    return accelerator


def _require_values(config: Config, dataset: Dataset) -> None:
    """Refuse a likelihood of pixels that are floats: between any two there are others, so that none has a probability."""
    schedule = config.schedule
    if dataset.scale.levels is not None:
        return
    if config.objective.loss.is_bound:
        what, remedy = f"The loss {config.objective.loss.kind}", "Set objective.loss = simple"
    elif isinstance(schedule, LearnedSchedule) and schedule.endpoint_range > 0:
        what, remedy = "A learned schedule whose endpoints move", "Set schedule.endpoint_range = 0"
    else:
        return
    raise RequestError(
        f"{what} needs the probability of each pixel, but those of {dataset.name} are floats, {dataset.scale}, which have none.",
        f"{remedy}, or store the pixels as whole numbers.",
    )


def check_batch_search(config: Config) -> None:
    """Refuse to look for a batch size where any would do.

    Raises:
        RequestError: If so.
    """
    if config.train.micro_batch_size is not None:
        raise RequestError(
            "With train.micro_batch_size any batch fits into the memory, so that the batch size auto has nothing to find.",
            "Give the batch size a number, or leave train.micro_batch_size out.",
        )


def _unscaled_learning_rate(config: Config) -> str:
    return (
        f"--batch-size auto takes {config.train.batch_size:,} images, and leaves the learning rate at {config.optimizer.lr:g}: "
        "it was chosen for another batch, so look at the first losses, and set --lr if they want it."
    )
