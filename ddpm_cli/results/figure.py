"""Hold figures of merit: how good a model is, with all that the number depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """Hold one figure of merit with all that it depends on.

    Attributes:
        metric: Its name.
        unit: Of value, error and terms.
        value: A mean over images.
        standard_error: Of that mean, over images; None for a single image.
        terms: What the value is the sum of, by name; empty if it is not a sum.
        details: How it was measured, by name.
        n: Images measured: held-out ones for a likelihood, generated ones for a metric of samples.
        split: Of the data set: the images measured, or the reference that samples are measured against.
        data: The data set.
        sha256: Of the bytes of the images of that split that were used.
        seed: Of everything random; the first of `repeats` sets of samples.
        spread: Standard deviation of value over the repeats; None for one alone.
        repeats: Independent sets of samples that value is the mean of.
        floor: The metric of real held-out images against the same reference, the best that can be hoped for; None if it has none.
        floor_n: Real images that the floor was measured with.
        notes: What a reader must know before trusting the value, such as an n that is too small.
        rows: A curve that the value sums up, one mapping of column to number for each point; empty if it is none.
    """

    metric: str
    unit: str
    value: float
    standard_error: float | None
    terms: dict[str, float]
    details: dict[str, str | int | float]
    n: int
    split: str
    data: str
    sha256: str
    seed: int
    spread: float | None = None
    repeats: int = 1
    floor: float | None = None
    floor_n: int | None = None
    notes: tuple[str, ...] = ()
    rows: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True)
class StoredFigure:
    """Hold a figure that was measured of a checkpoint.

    Attributes:
        figure: It, with how it was measured.
        step: Of the checkpoint.
        ema: Whether it is of the averaged weights.
        created: When it was measured, in seconds since 1970.
    """

    figure: Figure
    step: int
    ema: bool
    created: float
