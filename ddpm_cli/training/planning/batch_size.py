"""Find the largest batch that the memory has room for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch

from ddpm_cli.core.compute.machine_memory import local_processes, machine_memory
from ddpm_cli.core.compute.out_of_memory import fits, out_of_memory
from ddpm_cli.errors import OutOfMemoryError
from ddpm_cli.training.planning.estimate import TrainingMemory, resident_bytes
from ddpm_cli.training.planning.memory_report import network_error, smaller_network
from ddpm_cli.training.planning.rehearsal import Rehearsal

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.images import Dataset

SHARE = 0.9  # of the memory: some is left for what no estimate sees


def with_found_batch_size(config: Config, dataset: Dataset, accelerator: Accelerator) -> Config:
    """Set `train.batch_size` to the largest power of two, times the processes, that every process has memory for.

    On an accelerator growing batches are tried until one fails or takes more than SHARE of its memory; on a CPU, where a system
    without memory ends the process, it follows from the estimate and from what is free. It never exceeds the training images.

    Raises:
        OutOfMemoryError: If not even one image fits.
    """
    processes = accelerator.num_processes
    base = resident_bytes()
    with out_of_memory(partial(network_error, config)):
        rehearsal = Rehearsal.of(config, dataset.image_shape, accelerator)
        most, on_cpu = len(dataset.train.images) // processes, accelerator.device.type == "cpu"
        fitting = _fits_on_cpu(rehearsal, base, most) if on_cpu else partial(fits_on_accelerator, rehearsal)
        found = largest_power_of_two(fitting, most)
    if processes > 1:
        found = int(accelerator.gather(torch.tensor([found], device=accelerator.device)).min())
    if found == 0:
        raise OutOfMemoryError(
            f"Not even one image at a time can be trained with in the memory of {accelerator.device}.",
            smaller_network(config),
        )
    return _with_batch_size(config, found * processes)


def largest_power_of_two(fitting: Callable[[int], bool], most: int) -> int:
    """Find the largest power of two up to `most` that fits, as all below it do; 0 if not even 1 does."""
    found, images = 0, 1
    while images <= max(most, 1) and fitting(images):
        found, images = images, 2 * images
    return found


def _fits_on_cpu(rehearsal: Rehearsal, base: int, most: int) -> Callable[[int], bool]:
    memory, processes = TrainingMemory.of(rehearsal, base, most), rehearsal.accelerator.num_processes
    free = base + SHARE * machine_memory().available / local_processes()
    return lambda images: memory.peak(_with_batch_size(rehearsal.config, images * processes)) <= free


def fits_on_accelerator(rehearsal: Rehearsal, images: int) -> bool:
    """Try whether an accelerator has memory for so many images."""

    def attempt(images: int) -> None:
        beside = [torch.zeros_like(weight) for weight in rehearsal.network.parameters() for _ in range(3)]  # EMA, moments of Adam
        rehearsal.train_pass(images)
        del beside

    fitted = fits(attempt, images)
    used = used_share(rehearsal.accelerator.device)
    rehearsal.drop_gradients()
    return fitted and used <= SHARE


def used_share(device: torch.device) -> float:
    """Measure the share of an accelerator's memory that this process holds, with what its allocator keeps of the height so far."""
    if device.type == "mps":
        return torch.mps.driver_allocated_memory() / torch.mps.recommended_max_memory()
    free, total = torch.cuda.mem_get_info(device)
    return 1.0 - free / total


def _with_batch_size(config: Config, images: int) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update={"batch_size": images})})
