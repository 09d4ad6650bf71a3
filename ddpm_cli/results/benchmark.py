"""Hold what a benchmark found: plain values that `bench` fills in and `render` draws."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

UNDER_OUR_LOOP = "diffusers-network"
"""The peer of a duel in which diffusers' network, the same as ours, runs in our own training and sampling, compiled as ours."""


@dataclass(frozen=True)
class Spread:
    """Hold a figure over the rounds of a measurement.

    Attributes:
        median: The figure to quote.
        low: Of the lowest round.
        high: Of the highest round.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Find the spread of one or more values."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Speed:
    """Hold how fast one kind of work went.

    Attributes:
        per_second: Images in training, network evaluations times images in sampling.
        gflops: Of the network's convolutions and matrix products, 1e9 FLOP/s; a training step counts as three forward passes.
        of_convolution_peak: gflops over those of the convolution that was timed in the same round.
        of_gemm_peak: gflops over those of the matrix product that was timed in the same round.
        compiled: Whether the compiler wrote the network's kernels (torch.compile).
    """

    per_second: Spread
    gflops: Spread
    of_convolution_peak: Spread
    of_gemm_peak: Spread
    compiled: bool


@dataclass(frozen=True)
class Case:
    """Hold one batch size in one number format.

    Attributes:
        batch_size: Images.
        precision: fp32, bf16 or fp16.
        rounds: How often each kind of work was timed, in turn with the others.
        memory_bytes: The most that was in use: of the device's memory on CUDA, by this process so far elsewhere.
        convolution_gflops: A 3x3 convolution's speed, 1e9 FLOP/s.
        gemm_gflops: A matrix product's speed, 1e9 FLOP/s.
        training: Whole optimizer steps: batch, noise, forward and backward pass, clipping, optimizer, EMA.
        sampling: Whole reverse steps.
    """

    batch_size: int
    precision: str
    rounds: int
    memory_bytes: int
    convolution_gflops: Spread
    gemm_gflops: Spread
    training: Speed
    sampling: Speed


@dataclass(frozen=True)
class Network:
    """Hold a network that was timed.

    Attributes:
        name: Whose it is.
        parameters: Trained numbers in it.
        flops_per_image: Of a forward pass.
        same: Whether it computes the same function of its weights as ours.
        differences: In what it differs from ours.
    """

    name: str
    parameters: int
    flops_per_image: int
    same: bool
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Duel:
    """Hold our speed against a peer's, timed in turn.

    Attributes:
        peer: The peer's name, or UNDER_OUR_LOOP.
        work: training or sampling.
        batch_size: Images.
        precision: fp32, bf16 or fp16.
        rounds: How often each was timed.
        ours: Images, or evaluations times images, per second.
        theirs: The same of the peer.
        ratio: ours / theirs, round by round.
        ours_compiled: Whether the compiler wrote the kernels of our network.
        theirs_compiled: Whether it wrote those of theirs.
    """

    peer: str
    work: str
    batch_size: int
    precision: str
    rounds: int
    ours: Spread
    theirs: Spread
    ratio: Spread
    ours_compiled: bool
    theirs_compiled: bool


@dataclass(frozen=True)
class Machine:
    """Say where a benchmark ran.

    Attributes:
        device: cpu, cuda:0 or mps.
        name: What the processor or accelerator is called.
        threads: That torch uses on the CPU.
        platform: Operating system and architecture.
        versions: Of Python and packages, by name.
    """

    device: str
    name: str
    threads: int
    platform: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Benchmark:
    """Hold all of it.

    Attributes:
        machine: Where it ran.
        image_shape: Channels, height and width.
        network: Ours.
        cases: One for each batch size and number format.
        peers: Networks of others.
        duels: Our speed against theirs.
        notes: What a reader must know before trusting the figures.
    """

    machine: Machine
    image_shape: tuple[int, int, int]
    network: Network
    cases: tuple[Case, ...]
    peers: tuple[Network, ...]
    duels: tuple[Duel, ...]
    notes: tuple[str, ...]
