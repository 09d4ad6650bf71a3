"""Say what each edit draws: what it demands, and the course of its drawing; the one form of it for commands and Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ddpm_cli.results.events import Listener, ignore
from ddpm_cli.sampling.bounds import Demand
from ddpm_cli.sampling.courses import Course, Edited, Filled, FromLatents
from ddpm_cli.sampling.editing import INVERSION_ITERATIONS, edited, filled, interpolated
from ddpm_cli.sampling.request import Editing, jumps_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ddpm_cli.sampling.trained_model import TrainedModel

    Pixels = NDArray[Any]


class Edit(Protocol):
    """Say what becomes of the pictures that are edited."""

    def demand(self, trained: TrainedModel, editing: Editing) -> Demand:
        """Reckon what is to be drawn."""
        ...

    def course(self, trained: TrainedModel, editing: Editing, on_event: Listener = ignore) -> Course:
        """Prepare the drawing; `on_event` is told of network evaluations before the first image."""
        ...


@dataclass(frozen=True)
class Interpolation:
    """Go from one image to another, see `interpolated`.

    Attributes:
        ends: Two, each an image [C, H, W] as the model stores them, or the seed of one.
        images: On the way, both ends included, at least 2.
    """

    ends: Sequence[Pixels | int]
    images: int

    def demand(self, trained: TrainedModel, editing: Editing) -> Demand:
        """Reckon the images, and the way back to the noise of each picture."""
        steps = editing.settings.sampler.number_of_steps(trained.schedule.timesteps)
        pictures = sum(not isinstance(end, int) for end in self.ends)
        return Demand(self.images, steps, steps_from_file=False, beforehand=pictures * INVERSION_ITERATIONS * steps)

    def course(self, trained: TrainedModel, editing: Editing, on_event: Listener = ignore) -> FromLatents:
        """Find the noise of the ends; numbers from 0 on stand in the place of seeds."""
        return interpolated(trained, self.ends, self.images, editing.settings, label=editing.label, on_event=on_event)


@dataclass(frozen=True)
class Filling:
    """Fill a part of an image, see `filled`.

    Attributes:
        image: It, [C, H, W] as the model stores them.
        unknown: True where it is to be filled, bool [H, W].
        images: Fillings.
        resample: How many times steps are taken, at least 1.
        jump: Steps that are taken again at a time; the usual number if None.
    """

    image: Pixels
    unknown: NDArray[np.bool_]
    images: int
    resample: int
    jump: int | None

    def demand(self, trained: TrainedModel, editing: Editing) -> Demand:
        """Reckon each step as many times as it is taken."""
        steps = editing.settings.sampler.number_of_steps(trained.schedule.timesteps)
        return Demand(self.images, steps * self.resample, steps_from_file=False)

    def course(self, trained: TrainedModel, editing: Editing, on_event: Listener = ignore) -> Filled:
        """Choose the jumps."""
        steps = editing.settings.sampler.number_of_steps(trained.schedule.timesteps)
        return filled(trained, self.image, self.unknown, *jumps_of(steps, self.resample, self.jump))


@dataclass(frozen=True)
class Variation:
    """Make an image anew that keeps what is coarse in a given one, see `edited`.

    Attributes:
        image: The given one, [C, H, W] as the model stores them.
        strength: Share of the steps that are taken, in [0, 1].
        images: Variants.
    """

    image: Pixels
    strength: float
    images: int

    def demand(self, trained: TrainedModel, editing: Editing) -> Demand:
        """Reckon the share of the steps; they are the file's where its sampler is as it was."""
        sampler = editing.settings.sampler
        evaluations = math.ceil(self.strength * sampler.evaluations(trained.schedule.timesteps)) or 1
        return Demand(self.images, evaluations, steps_from_file=sampler == trained.config.sample.sampler)

    def course(self, trained: TrainedModel, editing: Editing, on_event: Listener = ignore) -> Edited:
        """Begin with the image in place of noise."""
        return edited(trained, self.image, self.strength)
