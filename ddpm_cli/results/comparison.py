"""Hold runs beside each other, as `experiments.compare` finds them and `render` draws them: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal, NamedTuple

Kind = Literal["baseline", "different", "not different", "cannot be told", "not comparable"]


class Curve(NamedTuple):
    """Hold a figure logged during training: its values, and how many images and seconds of training each came after."""

    images: tuple[float, ...]
    seconds: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Run:
    """Hold how a run went.

    Attributes:
        path: Its folder.
        name: The folder's name.
        seed: Of everything random in training.
        device: What it was trained on.
        step: Optimizer steps taken.
        images: Training images seen, over all passes.
        seconds: Time in training.
        images_per_second: As logged last; None if nothing was.
        parameters: Trainable numbers in the network; None without a checkpoint.
        has_checkpoint: Whether images can be drawn.
        finished: Whether its budget is used up.
        curves: "loss", "held_out_loss" and the metrics logged during training, by name.
        start: Trained weights that it began with, a path; empty of random ones.
    """

    path: Path
    name: str
    seed: int
    device: str
    step: int
    images: int
    seconds: float
    images_per_second: float | None
    parameters: int | None
    has_checkpoint: bool
    finished: bool
    curves: Mapping[str, Curve]
    start: str = ""

    @property
    def repeat(self) -> tuple[int, str]:
        """Tell what sets it apart from other repeats of its experiment: its seed, and the weights that it began with."""
        return self.seed, self.start

    def last(self, curve: str) -> float | None:
        """Take the value that was logged last, if one was."""
        return self.curves[curve].values[-1] if curve in self.curves else None

    def best(self, curve: str, better: str | None = "lower") -> float | None:
        """Take the best value that was logged, if one was: the lowest, unless the better ones are "higher"."""
        best = max if better == "higher" else min
        return best(self.curves[curve].values) if curve in self.curves else None


@dataclass(frozen=True)
class Arm:
    """Hold runs that differ in nothing but seed, name and device, as do runs that they took their first weights from.

    Attributes:
        name: That of the first run, without its seed.
        runs: In the order in which they were named.
    """

    name: str
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Verdict:
    """Hold what can be said of an arm beside the baseline.

    Attributes:
        kind: The answer.
        text: It in words, with the figures it rests on.
        change: (mean - baseline's mean) / baseline's mean; None where that is not positive, or there is no such mean.
        p: Welch's p-value, adjusted for the number of arms; None where nothing was tested.
    """

    kind: Kind
    text: str
    change: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class ArmFigures:
    """Hold one figure of the independent repeats of an arm.

    Attributes:
        arm: Its name.
        values: By the name of the run; empty if none has the figure.
        obstacle: The verdict where nothing may be tested, whatever the values are.
    """

    arm: str
    values: Mapping[str, float]
    obstacle: Verdict | None = None

    @property
    def mean(self) -> float | None:
        """Average over the repeats."""
        return fmean(self.values.values()) if self.values else None

    @property
    def spread(self) -> float | None:
        """Take the standard deviation over the repeats; None for fewer than two."""
        return stdev(self.values.values()) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Measure:
    """Hold one figure of all arms, measured the same way.

    Attributes:
        metric: What it is.
        conditions: How it was measured, by name; empty for a loss of training.
        arms: Its values; an arm without it has none.
        verdicts: One for each arm; empty where there is one arm alone.
        floor: The metric of real images, the best that can be hoped for; None if there is none, or not one for all.
        notes: What a reader must know of all its values.
    """

    metric: str
    conditions: Mapping[str, Any]
    arms: tuple[ArmFigures, ...]
    verdicts: tuple[Verdict, ...]
    floor: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Apart:
    """Hold a figure beside which no figure of another run or arm can be put."""

    run: str
    metric: str
    value: float
    conditions: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Hold what a comparison of runs found.

    Attributes:
        arms: The runs, grouped.
        baseline: Name of the arm that the others are compared with.
        differences: The settings in which arms differ: dotted key to the value of each arm, None where it has no such key.
        measures: Losses and figures that can be put beside each other.
        apart: Figures that cannot.
        failures: Why runs failed, by name.
        notes: What a reader must know.
    """

    arms: tuple[Arm, ...]
    baseline: str
    differences: Mapping[str, tuple[Any, ...]]
    measures: tuple[Measure, ...]
    apart: tuple[Apart, ...]
    failures: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def runs(self) -> list[Run]:
        """List all runs, arm by arm."""
        return [run for arm in self.arms for run in arm.runs]

    @property
    def only_seed(self) -> bool:
        """Tell whether the runs differ in nothing but their seed."""
        return len(self.arms) == 1
