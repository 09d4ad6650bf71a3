"""Hold which samplers of few steps come closest to a model's own long trajectories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TunedSampler:
    """Hold the best sampler that was found for one number of steps, each of which evaluates the network once.

    A distance is the root mean square of the differences between the pixels, in [-1, 1], of an image and of the one at which the
    long trajectory from the same noise ends; its mean over images whose noises took no part in the search.

    Attributes:
        steps: How many.
        sampler: It, as values of `[sample.sampler]`; its spacing lists the steps.
        distance: Of its images.
        untuned: What the model would sample with in as many steps otherwise, likewise.
        untuned_distance: Of the images of that.
    """

    steps: int
    sampler: Mapping[str, Any]
    distance: float
    untuned: Mapping[str, Any]
    untuned_distance: float


@dataclass(frozen=True)
class Tuning:
    """Hold the samplers that were tuned for the weights of a model.

    Attributes:
        step: Optimizer steps that these weights were trained for.
        ema: Whether they are the averaged ones.
        guidance: Values of `[sample.guidance]` that it was tuned with.
        threshold: Likewise of `[sample.threshold]`.
        images: Noises that steps were searched with.
        held_out: Other noises, which decided between solvers, and which distances are of.
        seed: Of the search.
        created: When it was done, in seconds since 1970.
        samplers: Of rising numbers of steps.
    """

    step: int
    ema: bool
    guidance: Mapping[str, Any]
    threshold: Mapping[str, Any]
    images: int
    held_out: int
    seed: int
    created: float
    samplers: tuple[TunedSampler, ...]
