"""Reckon what drawing images will hold and compute, before its first step, and limit what a stranger's file may ask for.

What users ask for by flags of their own is told where it takes long; what a run or a file asks for instead is refused beyond
bounds, which `--no-limits` lifts.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ddpm_cli.core.compute.machine_memory import local_processes, machine_memory
from ddpm_cli.errors import RequestError
from ddpm_cli.models.base import Denoiser
from ddpm_cli.models.cost import PassCost
from ddpm_cli.results.events import Listener, Notice, ignore
from ddpm_cli.sampling.file_bounds import DAY, HOUR, USUAL, Bounds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.sampling.trained_model import TrainedModel

FEW_IMAGES = 3
"""Least batch of what is tried before training."""
LONG_SCHEDULE = 10_000
"""Evaluations of the network for one image, from which on it is told how long they take."""

IMAGE_TENSORS = 12
"""Tensors of an image's shape that a sampler holds: x_t, x_s, noise, estimates, those of steps before, and what is made between.

Beside an accelerator the host holds no more than noise: that drawn ahead, and that on its way there."""
GAPS = 2.0
"""What the process grows by, divided by its tensors: blocks that were freed leave gaps, and convolutions take buffers of their own.
With it the estimate was 1.5 to 2.1 times what was held, see tests/soak/sampling_memory.py."""
NOISE_SOURCE = 6_000
"""Bytes of an image's own generator of noise; measured: 5.1 kB."""
COPIES = 4
"""Bytes for each value of an image that is drawn: one by one, together, in a picture and in what becomes of it."""
FLOAT32 = 4
SHARE = 0.8
"""Of the free memory: some is left for gaps and for what libraries take for themselves."""
UNREMARKABLE = 2**28
"""Bytes that every machine has."""
SLOWEST = 1e9
"""FLOP/s that every machine does."""
PROBE_SIDE = 512
TRIES = 5
SOFTMAX = 60
"""Operations that take as long as a pair of pixels takes in an attention, beside its products; measured on a CPU."""
EFFICIENCY = 0.5
"""Speed of a network, divided by that of a product of large matrices."""


@dataclass(frozen=True)
class Demand:
    """Say what is to be drawn.

    Attributes:
        images: All together.
        evaluations: Of the network, for each of them.
        images_from_file: Whether nobody but the file says how many.
        steps_from_file: Whether nobody but the file says in how many steps.
        at_once: Images that must be denoised at a time; smaller batches do where it is 1.
        kept: Images that are kept in memory when they are drawn; all if None.
        fewer: What to do for less, a sentence without its full stop; fewer images or steps if empty.
        device: Where to compute; where the network is if None.
        beforehand: Evaluations, all together, before the first image.
    """

    images: int
    evaluations: int
    images_from_file: bool = False
    steps_from_file: bool = True
    at_once: int = 1
    kept: int | None = None
    fewer: str = ""
    device: torch.device | None = None
    beforehand: int = 0

    @classmethod
    def of(
        cls, trained: TrainedModel, settings: SampleConfig, images: int, *, images_from_file: bool = False, kept: int | None = None
    ) -> Demand:
        """Ask for images out of noise; the steps are the file's where its sampler is as it was."""
        evaluations = settings.sampler.evaluations(trained.schedule.timesteps)
        return cls(images, evaluations, images_from_file, settings.sampler == trained.config.sample.sampler, kept=kept)


def image_bytes(trained: TrainedModel, settings: SampleConfig) -> int:
    """Count bytes that a step of denoising holds for each image of its batch, rather too many than too few."""
    of_sampler = IMAGE_TENSORS * FLOAT32 * math.prod(trained.image_shape)
    tensors = _passes(settings) * (_cost(trained).bytes + of_sampler)
    if trained.guide is not None:  # its pass comes after that of the model, whose estimates are kept meanwhile
        tensors = max(tensors, _cost(trained.guide.model).bytes + of_sampler) + of_sampler
    return round(GAPS * tensors) + NOISE_SOURCE


def _passes(settings: SampleConfig) -> int:
    """Passes through the network for an evaluation: guidance takes one with the label and one without, at a time."""
    return 1 if settings.guidance.scale in (0.0, 1.0) else 2


def _cost(trained: TrainedModel) -> PassCost:
    """Of a pass; of other networks than ours nothing is known."""
    return trained.network.pass_cost() if isinstance(trained.network, Denoiser) else PassCost(0, 0, 0)


def with_fitting_batch(trained: TrainedModel, settings: SampleConfig, images: int, on_event: Listener = ignore) -> SampleConfig:
    """Choose batches that the memory is estimated to have room for; smaller ones change no image.

    Args:
        trained: The model.
        settings: Of sampling.
        images: That this process will draw.
        on_event: Told of smaller batches.
    """
    wanted, each = min(settings.batch_size, images), image_bytes(trained, settings)
    if wanted * each <= UNREMARKABLE:
        return settings
    free = _free_bytes(trained.device)
    fitting = max(min(wanted, int(SHARE * free / each)), 1)
    if fitting == wanted:
        return settings
    asked = f"{wanted:,} images at a time would take about {_gigabytes(wanted * each)} of memory, and {_gigabytes(free)} are free"
    on_event(Notice(f"{asked}: drawing {fitting:,} at a time, which changes no image."))
    return settings.model_copy(update={"batch_size": fitting})


def _free_bytes(device: torch.device) -> int:
    """Of the device; on a CPU of the machine, for each of its processes."""
    host = machine_memory().available // local_processes()
    if device.type != "cuda":
        return host
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(host, torch.cuda.mem_get_info(device)[0] + kept)


def require_affordable(
    trained: TrainedModel, settings: SampleConfig, demand: Demand, bounds: Bounds | None = None, on_event: Listener = ignore
) -> None:
    """Refuse what a run or a file asks for beyond the bounds, and tell what takes long, before anything is drawn.

    Args:
        trained: The model.
        settings: Of sampling.
        demand: What is to be drawn.
        bounds: Those for a file; the usual ones if None.
        on_event: Told of long work, and of what was refused but for `bounds.lifted`.
    Raises:
        RequestError: Naming what is asked for, and what it takes.
    """
    bounds = bounds or USUAL
    for fault in (_images_fault(trained, demand, bounds), _memory_fault(trained, settings, demand, bounds)):
        _refuse(fault, bounds, on_event)
    seconds = seconds_for_an_image(trained, settings, demand, bounds)
    _refuse(_time_fault(trained, demand, seconds, bounds), bounds, on_event)
    in_all = seconds * (demand.images + demand.beforehand / demand.evaluations)
    if in_all > HOUR or demand.evaluations > LONG_SCHEDULE:
        before = f", and {demand.beforehand:,} before them," if demand.beforehand else ""
        told = f"{demand.images:,} images in {demand.evaluations:,} evaluations of the network each{before} will take about"
        on_event(Notice(f"{told} {about(in_all)} on this machine.", important=True))


def require_trainable(network: Denoiser, origin: Path, bounds: Bounds, on_event: Listener, makes_smaller: str) -> None:
    """Refuse a network of which a training step with a few images takes more memory than there is, before it is built.

    Weights, their average and Adam's moments are held, and no fewer feature maps than without gradients.

    Args:
        network: On the meta device.
        origin: What asks for it.
        bounds: Whether it is tried nevertheless.
        on_event: Told of that.
        makes_smaller: See `NetworkBase.makes_smaller`.
    Raises:
        RequestError: Naming what it takes.
    """
    weights = sum(parameter.nbytes for parameter in network.parameters())
    wanted, total = 4 * weights + FEW_IMAGES * network.pass_cost().bytes, machine_memory().total // local_processes()
    if wanted > total:
        height, width = network.image_size
        message = f"Training {origin} on images of {height}x{width} takes more than {_gigabytes(wanted)} of memory"
        remedy = f"Take smaller images or a smaller network: {makes_smaller}"
        _refuse((f"{message}, and this machine has {_gigabytes(total)}.", f"{remedy}{bounds.lift}."), bounds, on_event)


def _refuse(fault: tuple[str, str] | None, bounds: Bounds, on_event: Listener) -> None:
    if fault is None:
        return
    if not bounds.lifted:
        raise RequestError(*fault)
    on_event(Notice(fault[0], important=True))


def _fewer(demand: Demand, bounds: Bounds) -> str:
    return demand.fewer or f"Ask for fewer images or steps ({bounds.spelt('n')}, {bounds.spelt('steps')})"


def _images_fault(trained: TrainedModel, demand: Demand, bounds: Bounds) -> tuple[str, str] | None:
    if not demand.images_from_file or demand.images <= bounds.images:
        return None
    return (
        f"{trained.origin} asks for {demand.images:,} images, more than the {bounds.images:,} that a file may ask for.",
        f"{_fewer(demand, bounds)}{bounds.lift}.",
    )


def _memory_fault(trained: TrainedModel, settings: SampleConfig, demand: Demand, bounds: Bounds) -> tuple[str, str] | None:
    """More memory than there is at all; where other programs hold it, smaller batches are tried."""
    kept = demand.images if demand.kept is None else demand.kept
    wanted = demand.at_once * image_bytes(trained, settings) + COPIES * kept * math.prod(trained.image_shape)
    if wanted <= UNREMARKABLE or wanted <= (total := machine_memory().total // local_processes()):
        return None
    _, height, width = trained.image_shape
    return (
        f"{demand.images:,} images of {height}x{width}, {demand.at_once:,} at a time, would take about {_gigabytes(wanted)} of "
        f"memory in the network of {trained.origin}, and this machine has {_gigabytes(total)}.",
        f"{_fewer(demand, bounds)}, take another machine{bounds.lift}.",
    )


def _time_fault(trained: TrainedModel, demand: Demand, seconds: float, bounds: Bounds) -> tuple[str, str] | None:
    """Time that the file alone asks for: without the images or the steps that the user named."""
    of_file = seconds if demand.steps_from_file else seconds / demand.evaluations
    in_all = of_file * demand.images if demand.images_from_file else of_file
    if of_file <= bounds.seconds_an_image and in_all <= bounds.seconds:
        return None
    steps = f"{demand.evaluations:,} evaluations of the network" if demand.steps_from_file else "one evaluation of the network"
    images = f"{demand.images:,} images" if demand.images_from_file else "an image"
    return (
        f"{trained.origin} asks for {steps} for {images}: about {about(in_all)} on this machine.",
        f"{_fewer(demand, bounds)}, take another device{bounds.lift}.",
    )


def seconds_for_an_image(trained: TrainedModel, settings: SampleConfig, demand: Demand, bounds: Bounds) -> float:
    """Estimate how long an image takes: by its operations, and if there are many steps of few, by the time of one of them."""
    here = trained.device
    device = demand.device or here
    cost = _cost(trained)
    operations = (cost.flops + SOFTMAX * cost.pairs) * _passes(settings)
    if trained.guide is not None:
        of_guide = _cost(trained.guide.model)
        operations += of_guide.flops + SOFTMAX * of_guide.pairs
    flops = operations * demand.evaluations
    computed = 0.0 if flops * demand.images < SLOWEST * bounds.seconds_an_image else flops / speed_of(device)
    if demand.evaluations <= LONG_SCHEDULE or computed > bounds.seconds_an_image or here.type == "meta":
        return computed
    from ddpm_cli.sampling.trained_model import rehearse

    batch = min(with_fitting_batch(trained, settings, demand.images).batch_size, demand.images)
    seconds = _shortest(lambda: rehearse(trained, settings, batch), device)
    return max(computed, demand.evaluations * seconds / batch)


def speed_of(device: torch.device) -> float:
    """Measure FLOP/s of a network on a device, from a product of matrices; within a factor of a few."""
    side = PROBE_SIDE if device.type == "cpu" else 8 * PROBE_SIDE
    matrix = torch.ones(side, side, device=device)
    return EFFICIENCY * 2 * side**3 / _shortest(lambda: matrix @ matrix, device)


def _shortest(work: Callable[[], object], device: torch.device) -> float:
    """The shortest of a few times that some work takes, in seconds: the first is longer, and so are those beside other work."""
    taken = []
    for _ in range(TRIES):
        started = time.perf_counter()
        work()
        _settle(device)
        taken.append(time.perf_counter() - started)
    return min(taken)


def _settle(device: torch.device) -> None:
    """Wait for what an accelerator was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def about(seconds: float) -> str:
    """Say a time that is roughly known, in words."""
    for unit, length in (("years", 365 * DAY), ("days", DAY), ("hours", HOUR), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{max(seconds, 1):.0f} seconds"


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
