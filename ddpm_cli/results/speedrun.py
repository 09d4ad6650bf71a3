"""Hold what a speedrun is measured by, and what it came to."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Clock:
    """Hold the fixed rules that records are measured by.

    Attributes:
        name: Of the clock.
        minutes: Of training for each seed, on the clock of `train.minutes`.
        device: Where to train and to draw, as for --device.
        data: Kind of the data set, all of whose training images may be used.
        metric: Of samples.
        n: Samples.
        batch_size: Samples at a time, which changes none of them.
        most_evaluations: Of the network, that drawing a sample may take.
    """

    name: str
    minutes: float
    device: str
    data: str
    metric: str
    n: int
    batch_size: int = 64
    most_evaluations: int = 50


@dataclass(frozen=True)
class Record:
    """Hold who made a record.

    Attributes:
        file: Of its config.
        by: Who.
        date: When, as YYYY-MM-DD.
        note: What is new in it; empty if there is nothing to say.
    """

    file: Path
    by: str
    date: str
    note: str


@dataclass(frozen=True)
class TimedRun:
    """Hold one run of a record.

    Attributes:
        path: Of its folder.
        seed: `train.seed`.
        steps: Optimizer steps that it took.
        images: Training images that it saw, each time counted.
        seconds: Of training, up to the end of its last step.
        images_per_second: Of training steps alone.
        value: Of the clock's metric.
    """

    path: Path
    seed: int
    steps: int
    images: int
    seconds: float
    images_per_second: float | None
    value: float


@dataclass(frozen=True)
class Speedrun:
    """Hold a record as it was measured.

    Attributes:
        record: Who made it.
        clock: What it was measured by.
        device: Name of the processor or accelerator.
        threads: That torch used on the CPU.
        runs: One for each seed.
        floor: The metric of real images, the best that can be hoped for; None if there are none.
        file: Where all this is kept.
    """

    record: Record
    clock: Clock
    device: str
    threads: int
    runs: tuple[TimedRun, ...]
    floor: float | None
    file: Path

    @property
    def mean(self) -> float:
        """Average the metric over the seeds."""
        return statistics.fmean(run.value for run in self.runs)

    @property
    def spread(self) -> float:
        """Give the standard deviation of the metric over the seeds."""
        return statistics.stdev(run.value for run in self.runs)
