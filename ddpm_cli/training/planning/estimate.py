"""Estimate what a run will cost, from a few passes through a network like its own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import torch
from torch import nn

from ddpm_cli.core.compute.allocator import return_freed_memory
from ddpm_cli.core.compute.out_of_memory import largest_fitting
from ddpm_cli.core.compute.processors import Processors
from ddpm_cli.core.compute.weights import moment_bytes
from ddpm_cli.training.held_out import CHUNK
from ddpm_cli.training.planning.memory_trace import PeakMemory, peak_memory

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.training.planning.rehearsal import Rehearsal

PROBE_IMAGES = 16
PROBE_PASSES = 2
PROBE_SECONDS = 0.3
"""On a CPU: thirty ticks of the clock by which the operating system counts what programs take."""
HEAP_PASSES = 4
HEAP_BYTES = 2**26
FLOAT32 = 4
KEPT_OF_WEIGHTS = 2
"""Weights, EMA."""
COPIES_FOR_CHECKPOINT = 3
"""Of the moments: the bytes of each tensor, the file that safetensors makes of them, and Python's copy of that; beside the file
before, that of the EMA, which is held until the next is there."""


@dataclass(frozen=True)
class Pace:
    """Hold how fast a run will be.

    Attributes:
        seconds_per_image: Of one forward and backward pass.
        lost: Part of the processors that other programs had meanwhile, in [0, 1]; 0 where others than processors compute.
    """

    seconds_per_image: float
    lost: float


def pace(rehearsal: Rehearsal, batch: int) -> Pace:
    """Time forward and backward passes as training takes them; on a CPU long enough to see what other programs take of it.

    Args:
        rehearsal: Of the run; it has no gradients afterwards.
        batch: Images in one pass of the run; on a CPU at most PROBE_IMAGES a pass are timed at once, elsewhere those that fit.
    """
    device, run = rehearsal.accelerator.device, rehearsal.train_pass_as_training_does
    on_cpu = device.type == "cpu"
    size = min(batch, PROBE_IMAGES * rehearsal.passes_at_once) if on_cpu else batch
    size = largest_fitting(run, size, rehearsal.drop_gradients) or 1
    processors, started, images = Processors(torch.get_num_threads()), _now(device), 0
    while images < PROBE_PASSES * size or (on_cpu and processors.seconds < PROBE_SECONDS):
        run(size)
        images += size
    seconds = _now(device) - started
    rehearsal.drop_gradients()
    return Pace(seconds / images, processors.lost() if on_cpu and rehearsal.accelerator.num_processes == 1 else 0.0)


def seconds_per_update(rehearsal: Rehearsal) -> float:
    """Time what the optimizer takes for a step, once it has its moments; the weights stay as they are."""
    rehearsal.train_pass(1)
    optimizer, device = rehearsal.optimizer(), rehearsal.accelerator.device
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    started = _now(device)
    optimizer.step()
    seconds = _now(device) - started
    rehearsal.drop_gradients()
    return seconds


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def resident_bytes() -> int:
    """Measure what this process holds before a network is built: the program, all that torch loads later, and the data."""
    _use_what_loads_late()
    return_freed_memory()
    return held_bytes()


def held_bytes() -> int:
    """Measure what this process holds now."""
    return int(psutil.Process().memory_info().rss)


def _use_what_loads_late() -> None:
    """One step of training in small: the first use of an optimizer alone loads a hundred megabytes of Python."""
    layer = nn.Conv2d(8, 8, 3)
    optimizer = torch.optim.Adam(layer.parameters())
    torch.autograd.backward(layer(torch.zeros(1, 8, 8, 8)).sum())
    optimizer.step()


@dataclass(frozen=True)
class TrainingMemory:
    """Hold what training holds of a device's memory, in bytes.

    Attributes:
        base: What the process holds without the network; 0 on an accelerator, where only tensors count.
        weights: The network's.
        gradients: Of those that are not frozen.
        moments: What the optimizer keeps of them.
        image: One image in float32.
        training: Forward and backward pass, of a micro-batch.
        held_out: The loss of held-out images.
        sampling: A step of denoising.
        heap: Memory that the process takes for training, divided by that of its tensors: on a CPU freed blocks leave gaps.
        on_cpu: Whether the device's memory is that of the process.
        processes: That share a batch.
        passes_at_once: Passes that compute a micro-batch, each with gradients of its own.
    """

    base: int
    weights: int
    gradients: int
    moments: int
    image: int
    training: PeakMemory
    held_out: PeakMemory
    sampling: PeakMemory
    heap: float
    on_cpu: bool
    processes: int
    passes_at_once: int

    @classmethod
    def of(cls, rehearsal: Rehearsal, base: int, most_images: int) -> TrainingMemory:
        """Estimate from passes with a few images.

        Args:
            rehearsal: Of the run.
            base: What `resident_bytes` said before the rehearsal's network was built.
            most_images: No more are passed through at once, but for FEW + 1.
        """
        device, on_cpu = rehearsal.accelerator.device, rehearsal.accelerator.device.type == "cpu"

        def train_pass(images: int) -> None:
            rehearsal.train_pass(images)
            rehearsal.drop_gradients()

        train_pass(1)  # what is made once, such as tables of the schedule, belongs to no pass
        training = peak_memory(train_pass, device)
        return cls(
            base=base if on_cpu else 0,
            weights=rehearsal.weight_bytes,
            gradients=rehearsal.gradient_bytes,
            moments=moment_bytes(rehearsal.optimizer()),
            image=FLOAT32 * math.prod(rehearsal.image_shape),
            training=training,
            held_out=peak_memory(rehearsal.held_out_pass, device),
            sampling=peak_memory(rehearsal.sample_pass, device),
            heap=_heap_share(train_pass, training, most_images) if on_cpu else 1.0,
            on_cpu=on_cpu,
            processes=rehearsal.accelerator.num_processes,
            passes_at_once=rehearsal.passes_at_once,
        )

    def peak(self, config: Config) -> int:
        """Find the most that a run holds: on a CPU the whole process, on an accelerator its tensors.

        What it always holds, and the largest of what it holds for a while: a pass with its gradients and the noise of the batch, a
        step of the optimizer, a pass over held-out images, a step of sampling, and on a CPU the copy that becomes a checkpoint.
        """
        micro, share = micro_batch(config, self.processes)
        # Of the passes before; what is sent to other processes; of the other passes at once.
        copies_of_gradients = (micro < share) + (self.processes > 1) + self.passes_at_once - 1
        averages = len(config.ema.widths)
        noise = config.train.batch_size * config.objective.noise_candidates * self.image
        for_a_while = (
            round(self.heap * self.training.at(micro)) + copies_of_gradients * self.gradients + noise,
            noise + config.objective.coupling.memory(config.train.batch_size, self.image),
            2 * self.gradients,  # these, and the denominators of Adam where it is not fused
            self.held_out.at(min(CHUNK, micro)),
            self.sampling.at(_sampled_at_once(config)),
            COPIES_FOR_CHECKPOINT * max(self.moments, averages * self.weights) + self.weights if self.on_cpu else 0,
        )
        kept = KEPT_OF_WEIGHTS + averages + config.objective.further_networks
        return self.base + kept * self.weights + self.moments + max(for_a_while)


def _heap_share(train_pass: Callable[[int], None], training: PeakMemory, most_images: int) -> float:
    """What a pass makes the process grow by, divided by the height of its tensors.

    It is nearly the same for any number of images, so that few will do, if only their tensors are large beside all else.
    """
    images = 1
    while 2 * images <= most_images and training.at(images) < HEAP_BYTES:
        images *= 2
    return_freed_memory()
    before = held_bytes()
    for _ in range(HEAP_PASSES):
        train_pass(images)
    return max((held_bytes() - before) / training.at(images), 1.0)


def micro_batch(config: Config, processes: int) -> tuple[int, int]:
    """Count images of a pass, and of all passes of a step, of one process."""
    share = -(-config.train.batch_size // processes)
    return min(config.train.micro_batch_size or share, share), share


def _sampled_at_once(config: Config) -> int:
    images = config.train.sample_n if config.train.evaluate_every is None else config.train.evaluate_n
    return min(config.sample.batch_size, max(images, config.train.sample_n))
