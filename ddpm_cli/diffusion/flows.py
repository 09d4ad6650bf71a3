"""Make schedules that are no tables: paths between image and noise in closed form, for any real t. Imports no torch."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ddpm_cli.diffusion.levels import CLEAN, Level, Schedule, Table
from ddpm_cli.errors import ScheduleError


@dataclass(frozen=True, eq=False)
class PathSchedule(Schedule):
    """Hold a path x_t = alpha(t) * x_0 + sigma(t) * eps with alpha(0) = 1, sigma(0) = 0, alpha(1) = 0, sigma(1) = 1.

    The methods that take `xp`, the module of the numbers (math, numpy or torch), take a float, an array or a tensor.

    Attributes:
        timesteps: T, the number of steps of the grid, and what the network's time is scaled by; at least 1.
    """

    timesteps: int = 1000

    preserves_variance: ClassVar[bool] = False
    """Whether alpha**2 + sigma**2 is 1 everywhere."""

    @property
    def is_continuous(self) -> bool:
        """Tell that any t counts."""
        return True

    @abstractmethod
    def scales(self, t: Any, xp: Any) -> tuple[Any, Any]:
        """Give alpha and sigma at t in [0, 1]."""

    @abstractmethod
    def time_of_ratio(self, ratio: Any, xp: Any) -> Any:
        """Find the t in [0, 1] with this noise over signal, sigma / alpha, above 0 or infinite."""

    @abstractmethod
    def network_time(self, t: Any) -> Any:
        """Tell what a network is told at t in [0, 1], in [0, T]."""

    def at(self, step: int) -> Level:
        """Give the level of a step in [-1, T); -1 is clean data.

        Raises:
            ScheduleError: If it is no step of this schedule.
        """
        if not -1 <= step < self.timesteps:
            raise ScheduleError(f"Step {step} is outside of the schedule's 0 to {self.timesteps - 1}.")
        return self.level((step + 1) / self.timesteps)

    def level(self, t: float) -> Level:
        """Give the level at a real t in [0, 1].

        Raises:
            ScheduleError: If t is outside of [0, 1].
        """
        if not 0.0 <= t <= 1.0:
            raise ScheduleError(f"A level of noise lies between 0 and 1 and cannot be {t:g}.")
        alpha, sigma = self.scales(t, math)
        return Level(t, alpha**2, sigma**2) if t > 0.0 else CLEAN

    def level_of_ratio(self, ratio: float) -> Level:
        """Find the level with this noise over signal, sigma / alpha.

        Args:
            ratio: Above 0; may be infinite.
        """
        return self.level(self.time_of_ratio(ratio, math))

    def told(self, level: Level) -> float:
        """Tell what a network is told of a level, in [0, T], see `network_time`."""
        return float(self.network_time(level.t))

    @cached_property
    def _grid(self) -> tuple[Table, Table]:
        alpha, sigma = self.scales(np.arange(1, self.timesteps + 1) / self.timesteps, np)
        return alpha, sigma

    @property
    def signal_scales(self) -> Table:
        """Give the scale of the data in x_t of each step, alpha, float64 [T]."""
        return self._grid[0]

    @property
    def noise_scales(self) -> Table:
        """Give the scale of the noise in x_t of each step, sigma, float64 [T]."""
        return self._grid[1]

    @property
    def sigmas(self) -> Table:
        """Give noise over signal of each step, sigma / alpha; infinite at the last."""
        with np.errstate(divide="ignore"):
            return self._grid[1] / self._grid[0]

    @property
    def snr(self) -> Table:
        """Give the signal-to-noise ratio (alpha / sigma)**2 of each step, a ratio of variances."""
        ratio: Table = (self._grid[0] / self._grid[1]) ** 2
        return ratio

    @property
    def half_logsnr(self) -> Table:
        """Give log(alpha / sigma) of each step, the lambda of Lu et al. 2022; -inf at the last."""
        with np.errstate(divide="ignore"):
            return np.log(self._grid[0] / self._grid[1])

    @property
    def identity(self) -> Table:
        """Give alpha and sigma of each step, float64 [2, T]."""
        return np.stack(self._grid)


@dataclass(frozen=True, eq=False)
class Flow(PathSchedule):
    """Go from image to noise on a straight line (Lipman et al. 2023, Flow Matching, Eq. 20 to 22; Liu et al. 2023, Rectified Flow).

    alpha = 1 - t'    sigma = t'    t' = shift * t / (1 + (shift - 1) * t)    (Esser et al. 2024, Stable Diffusion 3, Eq. 23)

    Time runs as in Esser et al., noise at 1; Lipman et al. have it at 0. The shift multiplies sigma / alpha at every t: it is
    what `shift_logsnr` by -2 * log(shift) is to a table. The network is told T * t', as diffusers tells it.

    Attributes:
        shift: Above 0; above 1 gives more steps, and draws of t, to much noise, as larger images need it.
    """

    shift: float = 1.0

    def scales(self, t: Any, xp: Any) -> tuple[Any, Any]:
        """Give 1 - t' and t'."""
        whole = 1.0 + (self.shift - 1.0) * t
        return (1.0 - t) / whole, self.shift * t / whole

    def time_of_ratio(self, ratio: Any, xp: Any) -> Any:
        """Solve sigma / alpha = shift * t / (1 - t) for t."""
        return 1.0 / (1.0 + self.shift / ratio)

    def network_time(self, t: Any) -> Any:
        """Give T * t'."""
        return self.timesteps * (self.shift * t / (1.0 + (self.shift - 1.0) * t))


@dataclass(frozen=True, eq=False)
class TrigFlow(PathSchedule):
    """Go from image to noise on a quarter of a circle (Albergo et al. 2023, Stochastic Interpolants; Lu & Song 2024, TrigFlow).

    alpha = cos(pi * t / 2)    sigma = sin(pi * t / 2)

    Variance is preserved. dx / dt is pi / 2 times the velocity v of Salimans & Ho 2022. The network is told T * t.
    """

    preserves_variance: ClassVar[bool] = True

    def scales(self, t: Any, xp: Any) -> tuple[Any, Any]:
        """Give cosine and sine."""
        # The cosine as a sine is 0 at t = 1, without rounding.
        return xp.sin(0.5 * math.pi * (1.0 - t)), xp.sin(0.5 * math.pi * t)

    def time_of_ratio(self, ratio: Any, xp: Any) -> Any:
        """Give the share of a right angle whose tangent is sigma / alpha."""
        return xp.atan(ratio) / (0.5 * math.pi)

    def network_time(self, t: Any) -> Any:
        """Give T * t."""
        return self.timesteps * t
