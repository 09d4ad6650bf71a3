"""Hold what a new run took from a trained model, as `training` tells it and `render` draws it: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class StartReport:
    """Hold where the first weights of a run came from, and which they are.

    Attributes:
        weights: What was named: the path of a run, a checkpoint, an exported file or a folder of diffusers.
        origin: Where they lay.
        step: Optimizer steps that they were trained for; None if that is not known.
        sha256: Of all tensors of the source.
        taken: Names of those that were taken as they are.
        adapted: Name to how it was brought to other channels or classes.
        new: Name to why the run has random weights there.
        left: Name of a tensor of the source, or of a part, to why it was not taken.
        taken_numbers: How many of the network's numbers were taken or adapted.
        numbers: How many the network has.
        frozen: Names of those that stay as they are.
    """

    weights: str
    origin: str
    step: int | None
    sha256: str
    taken: tuple[str, ...]
    adapted: Mapping[str, str]
    new: Mapping[str, str]
    left: Mapping[str, str]
    taken_numbers: int
    numbers: int
    frozen: tuple[str, ...] = ()
