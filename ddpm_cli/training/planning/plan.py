"""Plan what a run will do and cost, before its first step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ddpm_cli.build.budget import Budget
from ddpm_cli.build.network import build_network
from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.schema.sample import MOST_PICTURE_PIXELS
from ddpm_cli.core.compute.device import precision_of
from ddpm_cli.core.compute.out_of_memory import out_of_memory
from ddpm_cli.data.scale import USUAL
from ddpm_cli.diffusion.schedules import NoiseSchedule, clipped_betas
from ddpm_cli.errors import RequestError
from ddpm_cli.models.base import freeze
from ddpm_cli.models.cost import forward_flops, parameter_count
from ddpm_cli.results.data_change import FROM_THE_START, Since
from ddpm_cli.results.events import Listener, Notice, TrainPlan, ignore
from ddpm_cli.sampling.bounds import Demand, require_affordable, require_trainable
from ddpm_cli.sampling.drawing import sampler_notices
from ddpm_cli.sampling.file_bounds import OWN, Bounds
from ddpm_cli.sampling.trained_model import TrainedModel
from ddpm_cli.training.averages.snapshots import count_snapshots
from ddpm_cli.training.planning.estimate import Pace, TrainingMemory, micro_batch, pace, resident_bytes, seconds_per_update
from ddpm_cli.training.planning.memory_report import check_memory, network_error
from ddpm_cli.training.planning.rehearsal import Rehearsal

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.models.base import Denoiser
    from ddpm_cli.results.start import StartReport

CONFIG = Path("the config")
PASSES_OF_A_STEP = 3
"""Forward passes that take as long as a forward and a backward pass."""
A_LONG_TRAINING = 1_000_000
"""Steps, where the clock ends a run."""
FEWER_SAMPLES = "Set train.sample_n=16"


def make_plan(
    config: Config,
    dataset: Dataset,
    accelerator: Accelerator,
    on_event: Listener = ignore,
    *,
    run: Path | None = None,
    start_step: int = 0,
    batch_size_found: bool = False,
    bounds: Bounds = OWN,
    start: StartReport | None = None,
    since: Since = FROM_THE_START,
) -> TrainPlan:
    """Plan what the run will do and cost; call it before its network is built, whose memory would be counted twice.

    A few passes through a network like its own are measured and timed, which take no more memory than training does.

    Args:
        config: Of the run, resolved.
        dataset: Its images.
        accelerator: Device, precision and processes.
        on_event: Warned of too little memory.
        run: The run's folder, if it has one.
        start_step: Steps taken already.
        batch_size_found: Whether nobody chose the batch size.
        bounds: On what the run may ask for.
        start: What its weights start from.
        since: From where on its images are these.
    Raises:
        RequestError: If the run needs more memory than the machine has; or if the bounds allow no such network or samples, or no
            picture holds these.
        OutOfMemoryError: If the memory does not suffice for the network and one image.
    """
    train, processes = config.train, accelerator.num_processes
    images = len(dataset.train.images)
    budget = Budget.of(train, images, since)
    for notice in _notices(config, budget):
        on_event(notice)
    with torch.device("meta"):
        network = build_network(config, dataset.image_shape)
    require_trainable(network, run or CONFIG, bounds, on_event)
    for notice in _of_averages(config, budget, network):
        on_event(notice)
    require_affordable_samples(config, dataset.image_shape, network, accelerator.device, run or CONFIG, bounds, on_event)
    seconds, peak, lost = None, None, 0.0
    if processes == 1 or train.sharding == "none":  # a network that is to be sharded may not fit here for a rehearsal
        found, per_update, memory = _rehearse(config, dataset, accelerator)
        check_memory(memory, config, on_event)
        passes = 1 + config.objective.autoguidance.more_passes / PASSES_OF_A_STEP
        per_step = found.seconds_per_image * passes * train.batch_size / processes + per_update
        seconds, peak, lost = _duration(budget, start_step, per_step), memory.peak(config), found.lost
    return TrainPlan(
        run=run,
        data=dataset.name,
        data_source=dataset.source,
        train_images=images,
        held_out_images=len(dataset.test.images),
        evaluated_images=min(len(dataset.test.images), train.eval_images),
        image_shape=dataset.image_shape,
        network=config.model.called,
        parameters=parameter_count(network),
        flops_per_image=forward_flops(network, dataset.image_shape),
        device=str(accelerator.device),
        precision=precision_of(accelerator),
        processes=processes,
        batch_size=train.batch_size,
        batch_size_found=batch_size_found,
        objective=_objective(config),
        start_step=start_step,
        total_steps=budget.steps,
        minutes=train.minutes,
        epochs=None if budget.steps is None else since.epochs + (budget.steps - since.step) * train.batch_size / images,
        estimated_seconds=seconds,
        estimated_bytes=peak,
        lost_to_others=lost,
        start=start,
        frozen_parameters=_frozen_parameters(network, config.start.freeze),
        pixels="" if dataset.scale == USUAL else str(dataset.scale),
    )


def _frozen_parameters(network: Denoiser, last: str | None) -> int:
    if last is None:
        return 0
    frozen, parameters = freeze(network, last), dict(network.named_parameters())
    return sum(parameters[name].numel() for name in frozen)


def require_affordable_samples(
    config: Config,
    image_shape: tuple[int, int, int],
    network: Denoiser,
    device: torch.device,
    origin: Path,
    bounds: Bounds,
    on_event: Listener = ignore,
) -> None:
    """Refuse samples of a training that take too long or that no picture holds; they come every few steps, and at the end.

    Args:
        config: Of the run.
        image_shape: Channels, height and width.
        network: That of the config, on the meta device.
        device: Where it will be.
        origin: What asks for the samples.
        bounds: On what it may ask for.
        on_event: Told of what takes long.
    Raises:
        RequestError: Naming what is asked for.
    """
    train, (_, height, width) = config.train, image_shape
    if train.sample_n * height * width > MOST_PICTURE_PIXELS:
        message = f"train.sample_n is {train.sample_n:,}, and so many images of {height}x{width} fit into no picture."
        raise RequestError(message, f"{FEWER_SAMPLES}.")
    settings = config.sample.model_copy(update={"sampler": train.sampler})
    model = TrainedModel(network, build_schedule(config.schedule), config, image_shape, origin, 0, ())
    drawn = {FEWER_SAMPLES: (train.sample_n, train.sample_n)}
    if train.evaluate_every is not None:
        drawn["Set train.evaluate_every=none"] = (train.evaluate_n, min(train.evaluate_n, settings.batch_size))
    evaluations = train.sampler.evaluations(config.schedule.timesteps)
    for fewer, (images, kept) in drawn.items():
        demand = Demand(images, evaluations, images_from_file=True, kept=kept, fewer=fewer, device=device)
        require_affordable(model, settings, demand, bounds, on_event)


def _rehearse(config: Config, dataset: Dataset, accelerator: Accelerator) -> tuple[Pace, float, TrainingMemory]:
    """What an image takes, seconds of an update of the weights, and the memory of the run."""
    base = resident_bytes()
    with out_of_memory(network_error):
        rehearsal = Rehearsal.of(config, dataset.image_shape, accelerator)
        micro, _ = micro_batch(config, accelerator.num_processes)
        memory = TrainingMemory.of(rehearsal, base, micro)
        return pace(rehearsal, micro), seconds_per_update(rehearsal), memory


def _notices(config: Config, budget: Budget) -> Iterator[Notice]:
    """What works, but hardly as it was meant."""
    schedule, warmup = build_schedule(config.schedule), config.optimizer.warmup_steps
    if budget.steps is not None and warmup >= budget.steps:
        yield Notice(
            f"The learning rate warms up for {warmup:,} steps, but the run has {budget.steps:,}: it never reaches "
            f"{config.optimizer.lr:g}. Lower optimizer.warmup_steps, or train longer.",
            important=True,
        )
    clipped = clipped_betas(schedule) if isinstance(schedule, NoiseSchedule) else []
    if len(clipped) > 1:
        yield Notice(
            f"{len(clipped)} of {schedule.timesteps} betas are clipped, so that the schedule is another than its name says. "
            "Raise schedule.timesteps, or lower schedule.beta_end.",
            important=True,
        )
    yield from sampler_notices(config.sample.sampler, config.sample.seen(schedule), "sample.sampler")
    yield from sampler_notices(config.train.sampler, schedule, "train.sampler")


def _of_averages(config: Config, budget: Budget, network: Denoiser) -> Iterator[Notice]:
    """Say what the averages that are kept over the whole training take on the disk."""
    if not config.ema.widths:
        return
    steps = A_LONG_TRAINING if budget.steps is None else budget.steps
    bytes_each = len(config.ema.widths) * sum(parameter.nbytes for parameter in network.parameters())
    of_steps = "a million steps" if budget.steps is None else f"{steps:,} steps"
    count = count_snapshots(steps)
    yield Notice(
        f"Averages for `ddpm ema` are kept {count} times in {of_steps}: {count * bytes_each / 1e6:,.0f} MB on the disk, beside "
        "those in checkpoints (ema.widths)."
    )


def _duration(budget: Budget, start_step: int, seconds_per_step: float) -> float:
    by_steps = None if budget.steps is None else max(budget.steps - start_step, 0) * seconds_per_step
    return min(limit for limit in (by_steps, budget.seconds) if limit is not None)


def _objective(config: Config) -> str:
    classes = f", {config.model.num_classes} classes" if config.model.num_classes else ""
    schedule, objective = config.schedule, config.objective
    loss = "" if objective.loss.kind == "simple" else f" by the {objective.loss.kind} loss"
    return f"{objective.parameterization.kind}-prediction{loss}, {schedule.kind} schedule, T = {schedule.timesteps}{classes}"
