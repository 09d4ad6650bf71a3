"""Measure how fast training and sampling are on this machine, beside what it can do at its best."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch

from ddpm_cli.bench.duels import duels, peer_networks
from ddpm_cli.bench.machine import machine, peak_bytes
from ddpm_cli.bench.peaks import convolution, gemm
from ddpm_cli.bench.peers import PEERS
from ddpm_cli.bench.request import BenchRequest, check_bench
from ddpm_cli.bench.subject import Setting, image_shape, number_of_classes, random_dataset, subject
from ddpm_cli.bench.timing import Parts, rates
from ddpm_cli.build.network import build_network, with_classes
from ddpm_cli.build.schedule import self_contained
from ddpm_cli.core.compute.device import resolve_device, resolve_precision
from ddpm_cli.core.compute.out_of_memory import free_memory, is_out_of_memory
from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.errors import OutOfMemoryError
from ddpm_cli.models.cost import forward_flops, parameter_count
from ddpm_cli.results.benchmark import Benchmark, Case, Duel, Network, Speed, Spread
from ddpm_cli.results.events import Listener, ignore

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.images import Dataset

PACKAGES = ("torch", "accelerate", "numpy")
PASSES_OF_A_STEP = 3  # forward, and backward for activations and for weights
UNSTEADY = 1.3
"""Highest over lowest round of a peak; above it the machine was busy with other things too."""


def run_bench(config: Config, request: BenchRequest, on_event: Listener = ignore) -> Benchmark:
    """Time training and sampling as a config has them.

    Args:
        config: Its data give the shape of the images alone; random ones are trained on.
        request: What to time.
        on_event: Told of progress.

    Raises:
        RequestError: If something asked for cannot be had, such as a peer that is not installed.
        DeviceError: If this machine lacks the device or a number format.
    """
    check_bench(config, request)
    device = resolve_device(config.train.device)
    precisions = request.precisions or (("fp32", "bf16") if device.type == "cuda" else ("fp32",))
    for precision in precisions:
        resolve_precision(precision, device)
    # Peers know no vector of augmentation, and what is timed is the network.
    config = config.model_copy(update={"data": config.data.model_copy(update={"augment": 0.0})})
    config, dataset = _prepared(config, max(request.batch_sizes), on_event)
    network = _our_network(config, dataset)
    peers = peer_networks(config, dataset.image_shape, request.against)

    points = [(size, precision) for precision in precisions for size in sorted(set(request.batch_sizes))]
    parts = Parts((2 if request.against else 1) * len(points), on_event)
    # One after the other: Accelerate has one number format at a time.
    settings = (Setting(config, dataset, *point, make_accelerator(config.train.device, point[1]), on_event) for point in points)
    cases, found, notes = _measured(settings, network.flops_per_image, request, parts)
    return Benchmark(
        machine(device, [*PACKAGES, *(package for name in request.against for package in PEERS[name].packages)]),
        dataset.image_shape,
        network,
        tuple(cases),
        tuple(peers),
        tuple(found),
        (*notes, *_doubts(cases)),
    )


def _measured(
    settings: Iterable[Setting], flops: int, request: BenchRequest, parts: Parts
) -> tuple[list[Case], list[Duel], list[str]]:
    """All cases and duels, and what was left out because memory was too small; `flops` of a forward pass."""
    seconds = request.seconds / parts.count
    cases: list[Case] = []
    found: list[Duel] = []
    notes: list[str] = []
    for setting in settings:
        what = f"batch {setting.batch_size}, {setting.precision}"
        torch.compiler.reset()  # it counts how often it has compiled a network, and would soon stop
        try:
            cases.append(_case(setting, flops, seconds, parts.next(what)))
            if request.against:
                found += duels(setting, request.against, seconds, parts.next(f"{what}, against others"))
        except (RuntimeError, MemoryError, OutOfMemoryError) as error:
            if not isinstance(error, OutOfMemoryError) and not is_out_of_memory(error):
                raise
            free_memory(error)
            notes.append(
                f"A batch of {setting.batch_size} in {setting.precision} does not fit into the memory of {setting.device}."
            )
    return cases, found, notes


def _prepared(config: Config, images: int, on_event: Listener) -> tuple[Config, Dataset]:
    """The config as it trains, and random images of the shape of its data."""
    config = self_contained(config)
    dataset = random_dataset(image_shape(config.data, on_event), 2 * images, number_of_classes(config))
    config = config.model_copy(update={"schedule": config.schedule.for_images(dataset.image_shape)})
    return with_classes(config, dataset.train.class_names), dataset


def _our_network(config: Config, dataset: Dataset) -> Network:
    with torch.device("meta"):
        model = build_network(config, dataset.image_shape)
    return Network("ddpm", parameter_count(model), forward_flops(model, dataset.image_shape), same=True)


def _case(setting: Setting, flops: int, seconds: float, on_progress: Callable[[float], None]) -> Case:
    """Training, sampling and the device's peaks, timed in turn; `flops` of a forward pass."""
    device, precision = setting.device, setting.precision
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    training, sampling = subject(setting)
    training.run()
    sampling.run()
    memory = peak_bytes(device)
    works = [training, sampling, convolution(precision, device), gemm(precision, device)]
    trained, sampled, convolved, multiplied = rates(works, seconds, device, on_progress)
    return Case(
        setting.batch_size,
        precision,
        len(trained),
        memory,
        Spread.of([rate / 1e9 for rate in convolved]),
        Spread.of([rate / 1e9 for rate in multiplied]),
        _speed(trained, PASSES_OF_A_STEP * flops, convolved, multiplied, compiled=training.compiled),
        _speed(sampled, flops, convolved, multiplied, compiled=sampling.compiled),
    )


def _speed(rates: Sequence[float], flops: int, convolved: Sequence[float], multiplied: Sequence[float], *, compiled: bool) -> Speed:
    """`rates` and the FLOP/s of the peaks, by round; `flops` of one unit."""
    return Speed(
        Spread.of(rates),
        Spread.of([rate * flops / 1e9 for rate in rates]),
        Spread.of([rate * flops / peak for rate, peak in zip(rates, convolved, strict=True)]),
        Spread.of([rate * flops / peak for rate, peak in zip(rates, multiplied, strict=True)]),
        compiled,
    )


def _doubts(cases: Sequence[Case]) -> list[str]:
    """What the measurement itself says against its figures."""
    spreads = [case.convolution_gflops.high / case.convolution_gflops.low for case in cases]
    spreads += [case.gemm_gflops.high / case.gemm_gflops.low for case in cases]
    worst = max(spreads, default=1.0)
    if worst <= UNSTEADY:
        return []
    return [f"The machine was not steady: the same convolution or product took up to {worst:.1f} times as long in another round."]
