"""Name a noise level by how much signal and noise it has, and say what a noise schedule answers. Imports no torch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]

ROUNDING = 1e-6
"""Of a step, by which a real t may miss it and still mean it."""
ROUNDING_OF_POWER = 1e-15
"""By which alpha**2 + sigma**2 may miss 1 in float64 and still mean it."""


@dataclass(frozen=True, slots=True)
class Level:
    """Name a noise level, at which x = alpha * x_0 + sigma * eps.

    The squares are kept, because they are what the table of a schedule holds: abar and 1 - abar. Their sum is 1 in a process that
    preserves variance, as DDPM's does; flow matching's does not.

    Attributes:
        t: Where it lies in the process, in [0, 1]: 0 is clean data, 1 the last level of the schedule.
        signal: alpha**2, the share of the data's variance that is left; at least 0.
        noise: sigma**2, the variance of the noise; at least 0.
    """

    t: float
    signal: float
    noise: float

    @property
    def alpha(self) -> float:
        """Give the scale of the data."""
        return math.sqrt(self.signal)

    @property
    def sigma(self) -> float:
        """Give the scale of the noise."""
        return math.sqrt(self.noise)

    @property
    def ratio(self) -> float:
        """Divide noise by signal, sigma / alpha: what Karras et al. 2022 call sigma; infinite where no signal is left."""
        return math.sqrt(self.noise / self.signal) if self.signal > 0.0 else math.inf

    @property
    def half_logsnr(self) -> float:
        """Give log(alpha / sigma), the lambda of Lu et al. 2022; infinite for clean data, -infinite where no signal is left."""
        if self.noise == 0.0:
            return math.inf
        return 0.5 * math.log(self.signal / self.noise) if self.signal > 0.0 else -math.inf

    @property
    def power(self) -> float:
        """Give alpha**2 + sigma**2, the variance of x where that of the data is 1: exactly 1 where variance is preserved."""
        power = self.signal + self.noise
        return 1.0 if abs(power - 1.0) < ROUNDING_OF_POWER else power


CLEAN = Level(0.0, 1.0, 0.0)
"""The images themselves."""


def added_noise(s: Level, t: Level) -> float:
    """Give the variance that noising from level s to level t adds, of q(x_t | x_s) (Kingma et al. 2021, VDM, Eq. 25).

    sigma_t**2 - (alpha_t / alpha_s)**2 * sigma_s**2

    Args:
        s: A level with some signal, CLEAN included.
        t: One with more noise.
    """
    kept = t.signal / s.signal
    if s.power == t.power == 1.0:
        return 1.0 - kept  # the same by fewer roundings
    return t.noise - kept * s.noise


class Schedule(ABC):
    """Answer how much signal and noise there is at each moment of a process.

    Time t runs from 0, clean data, to 1, the last level. A grid of T steps lies in it, step k at t = (k + 1) / T: no sampler takes
    more steps, and some ask for whole ones. Step -1 is clean data.
    """

    @property
    def is_continuous(self) -> bool:
        """Tell whether any t counts, in training and for samplers, and not those of the grid alone."""
        return False

    @property
    @abstractmethod
    def timesteps(self) -> int:
        """Give T."""

    @abstractmethod
    def at(self, step: int) -> Level:
        """Give the level of a step in [-1, T).

        Raises:
            ScheduleError: If it is no step of this schedule.
        """

    @abstractmethod
    def level(self, t: float) -> Level:
        """Give the level at a real t in [0, 1].

        Raises:
            ScheduleError: If t is outside of [0, 1].
        """

    @abstractmethod
    def level_of_ratio(self, ratio: float) -> Level:
        """Find the level with this noise over signal, sigma / alpha, above 0; the nearest if there is none."""

    @abstractmethod
    def told(self, level: Level) -> int | float:
        """Tell what a network is told of a level as its time."""

    @property
    @abstractmethod
    def signal_scales(self) -> Table:
        """Give the scale of the data in x_t of each step, alpha, float64 [T]."""

    @property
    @abstractmethod
    def noise_scales(self) -> Table:
        """Give the scale of the noise in x_t of each step, sigma, float64 [T]."""

    @property
    @abstractmethod
    def sigmas(self) -> Table:
        """Give noise over signal, sigma / alpha, of each step, float64 [T]; infinite where no signal is left."""

    @property
    @abstractmethod
    def snr(self) -> Table:
        """Give the signal-to-noise ratio (alpha / sigma)**2 of each step, a ratio of variances, float64 [T]."""

    @property
    @abstractmethod
    def half_logsnr(self) -> Table:
        """Give log(alpha / sigma) of each step, the lambda of Lu et al. 2022, float64 [T]; -inf where no signal is left."""

    @property
    @abstractmethod
    def identity(self) -> Table:
        """Give numbers by which it can be told from any other schedule, float64."""

    def step(self, level: Level) -> int | float:
        """Tell which step a level is: an int on the grid, real between two; -1 is clean data."""
        step = self._step(level.t)
        return int(step) if step.is_integer() else step

    def _step(self, t: float) -> float:
        step = t * self.timesteps - 1.0
        nearest = float(round(step))
        return nearest if abs(step - nearest) < ROUNDING else step
