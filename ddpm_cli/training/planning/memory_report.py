"""Say that memory does not suffice: before training, where it can be known, and after it ran out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddpm_cli.core.compute.machine_memory import local_processes, machine_memory
from ddpm_cli.core.compute.out_of_memory import largest_fitting
from ddpm_cli.core.compute.sharding import is_sharded
from ddpm_cli.errors import OutOfMemoryError, RequestError
from ddpm_cli.results.events import Listener, Notice
from ddpm_cli.runs.checkpoints import has_checkpoint
from ddpm_cli.training.planning.estimate import TrainingMemory, held_bytes, micro_batch
from ddpm_cli.training.planning.rehearsal import Rehearsal

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.runs.run_directory import RunDirectory
    from ddpm_cli.training.trainer import Trainer

CHECKPOINTING = "train.gradient_checkpointing=true"


# ----------------------------------------------------------------------------------------------------- before training


def check_memory(memory: TrainingMemory, config: Config, on_event: Listener) -> None:
    """Compare what training on a CPU will hold with what there is: a system without memory ends processes without a word.

    More than is free now is worth a warning, as other programs may end; more than the machine has can never be had.

    Args:
        memory: Of the run.
        config: Of the run.
        on_event: Told of the warning.
    Raises:
        RequestError: If it is more than the machine has.
    """
    if not memory.on_cpu:
        return
    machine, peak, processes = machine_memory(), memory.peak(config), local_processes()
    held = held_bytes()
    impossible = peak * processes > machine.total
    if not impossible and (peak - held) * processes <= machine.available:
        return
    limit = machine.total if impossible else machine.available + held * processes
    has = "this machine has" if impossible else "is free"
    message = (
        f"Training will hold about {peak * processes / 1e9:,.1f} GB of memory, more than the {limit / 1e9:,.1f} GB that {has}."
    )
    limit //= processes
    micro = _largest_estimated(memory, config, micro_batch(config, memory.processes)[0], limit, with_micro_batch)
    batch = None if micro else _largest_estimated(memory, config, config.train.batch_size, limit, _with_batch)
    remedy = _less_memory(micro, config, "Add", batch)
    if impossible:
        raise RequestError(message, remedy)
    on_event(Notice(f"{message} The system may end it without a word. {remedy}", important=True))


def _largest_estimated(
    memory: TrainingMemory, config: Config, images: int, limit: int, with_images: Callable[[Config, int], Config]
) -> int | None:
    """The largest out of the halves of `images` with which the config is estimated to stay below `limit` bytes."""
    images //= 2
    while images >= 1 and memory.peak(with_images(config, images)) > limit:
        images //= 2
    return images or None


def _with_batch(config: Config, images: int) -> Config:
    """The config with other batches."""
    return config.model_copy(update={"train": config.train.model_copy(update={"batch_size": images})})


def with_micro_batch(config: Config, images: int) -> Config:
    """Change the micro-batches of a config."""
    return config.model_copy(update={"train": config.train.model_copy(update={"micro_batch_size": images})})


def _less_memory(micro: int | None, config: Config, begin: str, batch: int | None = None) -> str:
    """How to make training smaller.

    Args:
        micro: A micro-batch that would do, if there is one.
        config: Of the run.
        begin: What to do with the settings.
        batch: A batch that would do, where no micro-batch does because the batch itself is too large.
    """
    ways = [] if micro is None else [f"--set train.micro_batch_size={micro}, which leaves the batch as large as it is"]
    ways += [] if batch is None else [f"--batch-size {batch}"]
    if not config.train.gradient_checkpointing:
        ways.append(f"--set {CHECKPOINTING}, which computes more and holds less")
    return f"{begin} {', or '.join(ways)}." if ways else smaller_network(config)


# -------------------------------------------------------------------------------------------------------- after it ran out


def network_error(config: Config) -> OutOfMemoryError:
    """Say that building a network, or its first passes with a few images, ran out of memory."""
    message = "Out of memory while the network was built: there is no room for it and a few images."
    return OutOfMemoryError(message, smaller_network(config))


def smaller_network(config: Config) -> str:
    """Say how to take less of a network."""
    return f"Take a smaller network: {config.model.makes_smaller}."


def training_error(trainer: Trainer, run: RunDirectory) -> OutOfMemoryError:
    """Say that training ran out of memory, after smaller micro-batches were tried in this very process."""
    trainer.optimizer.zero_grad()
    # What is sharded works with all processes together, and the others have no reason to try.
    fitted = None if is_sharded(trainer.model) else _largest_micro_batch(trainer)
    return _training_error(trainer, run, fitted)


def _training_error(trainer: Trainer, run: RunDirectory, fitted: int | None) -> OutOfMemoryError:
    config, accelerator = trainer.config, trainer.accelerator
    micro, _ = micro_batch(config, accelerator.num_processes)
    message = (
        f"Out of memory at step {trainer.step + 1:,} with {micro:,} images in a forward and backward pass "
        f"(batch size {config.train.batch_size:,}) on {trainer.device}. "
    )
    if not is_sharded(trainer.model):
        message += f"Tried at once, {fitted:,} fitted." if fitted else "Tried at once, not even one fitted."
    if not has_checkpoint(run):
        return OutOfMemoryError(message, _less_memory(fitted, config, "Start again: ddpm train ..."))
    return OutOfMemoryError(
        f"{message} The run's checkpoints are intact.", _less_memory(fitted, config, f"Go on with: ddpm resume {run.shell_word}")
    )


def _largest_micro_batch(trainer: Trainer) -> int | None:
    """The largest micro-batch, out of the halves of the one that failed, with which this network can be trained on this device.

    The averaged weights stand in for the network, to whose own gradients those of other processes are added. They are of no use
    any more: the run goes on from a checkpoint.
    """
    micro, _ = micro_batch(trainer.config, trainer.accelerator.num_processes)
    network = trainer.ema.model
    network.train().requires_grad_(True)
    schedule, learner, guide = trainer.schedule, trainer.learner, trainer.guide
    rehearsal = Rehearsal(trainer.config, network, trainer.image_shape, schedule, learner, guide, trainer.accelerator)
    moments: list[Tensor] = []

    def step(images: int) -> None:
        if not trainer.optimizer.state:  # those of Adam, which the first step makes
            moments.extend(torch.zeros_like(parameter) for parameter in network.parameters() for _ in range(2))
        rehearsal.train_pass(images)
        rehearsal.train_pass(images)  # beside the gradients of the first

    def clear() -> None:
        moments.clear()
        rehearsal.drop_gradients()

    return largest_fitting(step, micro // 2, clear)
