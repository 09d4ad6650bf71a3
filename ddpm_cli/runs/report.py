"""Hold what a report tells of one run, as `experiments.report` gathers it and `render.html` draws it: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ddpm_cli.diffusion.levels import Schedule
    from ddpm_cli.results.comparison import Run
    from ddpm_cli.results.events import Incident
    from ddpm_cli.results.figure import StoredFigure


@dataclass(frozen=True)
class StoredGrid:
    """Hold a picture of samples that was drawn during training.

    Attributes:
        step: Optimizer steps taken before it.
        picture: The bytes of the file.
    """

    step: int
    picture: bytes


@dataclass(frozen=True)
class Moment:
    """Hold the images of one point of a denoising.

    Attributes:
        t: The step of the schedule that they stand at; -1 for finished images.
        images: uint8 [N, C, H, W].
    """

    t: int
    images: NDArray[np.uint8]


@dataclass(frozen=True)
class Trajectory:
    """Hold one denoising, from noise to images.

    Attributes:
        step: Optimizer steps that the model was trained for.
        method: The sampler and the seeds, in words.
        moments: From pure noise on.
    """

    step: int
    method: str
    moments: tuple[Moment, ...]


@dataclass(frozen=True)
class RunReport:
    """Hold all that a run's folder tells, and what was drawn from it.

    Attributes:
        run: How it went.
        info: run.json, which may be a stranger's.
        config_toml: What it was trained with.
        log: The rows of metrics.jsonl, in order; finite numbers alone, and printable names.
        incidents: What went wrong with the numbers.
        figures: What `ddpm evaluate` measured, in order.
        grids: The samples over training, in order; evenly chosen if there were many.
        grids_found: How many there were.
        schedule: The noise schedule; of a learned one without a checkpoint, that which training starts from.
        schedule_kind: Its name.
        trajectory: None if it was not wanted, or there is no checkpoint to draw with.
    """

    run: Run
    info: Mapping[str, Any]
    config_toml: str
    log: tuple[Mapping[str, float], ...]
    incidents: tuple[Incident, ...]
    figures: tuple[StoredFigure, ...]
    grids: tuple[StoredGrid, ...]
    grids_found: int
    schedule: Schedule
    schedule_kind: str
    trajectory: Trajectory | None
