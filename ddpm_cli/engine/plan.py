"""What a run will do and cost, before its first step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ddpm_cli.engine.budget import Budget
from ddpm_cli.engine.build import build_network
from ddpm_cli.engine.estimate import TrainingMemory, micro_batch, resident_bytes, seconds_per_image
from ddpm_cli.engine.memory_report import check_memory, network_error
from ddpm_cli.engine.out_of_memory import out_of_memory
from ddpm_cli.engine.rehearsal import Rehearsal
from ddpm_cli.events import Listener, TrainPlan, ignore
from ddpm_cli.models.cost import forward_flops, parameter_count

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema import Config
    from ddpm_cli.data.images import Dataset


def make_plan(
    config: Config,
    dataset: Dataset,
    accelerator: Accelerator,
    on_event: Listener = ignore,
    *,
    run: Path | None = None,
    start_step: int = 0,
    refuse: bool = True,
    batch_size_found: bool = False,
) -> TrainPlan:
    """What the run will do and cost; to be called before its network is built, whose memory would be counted twice.

    A few passes through a network like its own are measured and timed, which take no more memory than training does.

    Args:
        config: Of the run, resolved.
        dataset: Its images.
        accelerator: Device, precision and processes.
        on_event: Warned of too little memory.
        run: The run's folder, if it has one.
        start_step: Steps taken already.
        refuse: Whether more memory than the machine has is an error.
        batch_size_found: Whether nobody chose the batch size.
    Raises:
        RequestError: See `refuse`.
        OutOfMemoryError: If the memory does not suffice for the network and one image.
    """
    train, processes = config.train, accelerator.num_processes
    budget = Budget.of(train, len(dataset.train.images))
    with torch.device("meta"):
        network = build_network(config, dataset.image_shape)
    seconds, peak = None, None
    if processes == 1 or train.sharding == "none":  # a network that is to be sharded may not fit here for a rehearsal
        per_image, memory = _rehearse(config, dataset, accelerator)
        check_memory(memory, config, on_event, refuse=refuse)
        seconds, peak = _duration(budget, start_step, per_image * train.batch_size / processes), memory.peak(config)
    precision = {"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)
    return TrainPlan(
        run=run,
        data=dataset.name,
        data_source=dataset.source,
        train_images=len(dataset.train.images),
        held_out_images=len(dataset.test.images),
        evaluated_images=min(len(dataset.test.images), train.eval_images),
        image_shape=dataset.image_shape,
        parameters=parameter_count(network),
        flops_per_image=forward_flops(network, dataset.image_shape),
        device=str(accelerator.device),
        precision=precision,
        processes=processes,
        batch_size=train.batch_size,
        batch_size_found=batch_size_found,
        objective=_objective(config),
        start_step=start_step,
        total_steps=budget.steps,
        minutes=train.minutes,
        epochs=None if budget.steps is None else budget.steps * train.batch_size / len(dataset.train.images),
        estimated_seconds=seconds,
        estimated_bytes=peak,
    )


def _rehearse(config: Config, dataset: Dataset, accelerator: Accelerator) -> tuple[float, TrainingMemory]:
    """Seconds that an image takes, and the memory of the run."""
    base = resident_bytes()
    with out_of_memory(network_error):
        rehearsal = Rehearsal.of(config, dataset.image_shape, accelerator)
        micro, _ = micro_batch(config, accelerator.num_processes)
        memory = TrainingMemory.of(rehearsal, base, micro)
        return seconds_per_image(rehearsal, micro), memory


def _duration(budget: Budget, start_step: int, seconds_per_step: float) -> float:
    by_steps = None if budget.steps is None else max(budget.steps - start_step, 0) * seconds_per_step
    return min(limit for limit in (by_steps, budget.seconds) if limit is not None)


def _objective(config: Config) -> str:
    classes = f", {config.model.num_classes} classes" if config.model.num_classes else ""
    schedule, objective = config.schedule, config.objective
    loss = "" if objective.loss.kind == "simple" else f" by the {objective.loss.kind} loss"
    return f"{objective.parameterization.kind}-prediction{loss}, {schedule.kind} schedule, T = {schedule.timesteps}{classes}"
