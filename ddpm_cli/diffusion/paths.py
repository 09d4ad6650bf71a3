"""Sample along another path from noise to data, by a change of coordinates. Imports no torch.

Every process with x = alpha * x_0 + sigma * eps passes through the same pictures: at levels of the same sigma / alpha the x of two
processes differ by a factor alone (Karras et al. 2022, App. B.1; Kingma & Gao 2023, App. D.2). DDPM, EDM and flow matching are one
family: they differ in that factor, in which levels they call evenly spaced, and in what they ask a network for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ddpm_cli.diffusion.levels import CLEAN, Level, Schedule, Table
from ddpm_cli.diffusion.timesteps import MAX_SIGMA

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm_cli.diffusion.denoise import Denoise
    from ddpm_cli.diffusion.prediction import Denoised
    from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput


class Path(Protocol):
    """Give the scales of image and noise along a path, as `flows.Flow` and `flows.TrigFlow` do."""

    def scales(self, t: Any, xp: Any) -> tuple[Any, Any]:
        """Give alpha and sigma at the path's own time t, in which its steps are even."""
        ...

    def time_of_ratio(self, ratio: Any, xp: Any) -> Any:
        """Find the t with this noise over signal, sigma / alpha, above 0 or infinite."""
        ...


@dataclass(frozen=True)
class Exploding:
    """Keep the image as it is, and let the noise grow: x = x_0 + sigma * eps (Karras et al. 2022, Eq. 5 and Table 1, EDM).

    alpha = 1    sigma = t**rho

    Attributes:
        rho: At least 1; the larger, the more steps at low noise. 7 is the paper's.
    """

    rho: float = 7.0

    def scales(self, t: float, xp: Any) -> tuple[float, float]:
        """Give 1 and t**rho."""
        return 1.0, t**self.rho

    def time_of_ratio(self, ratio: float, xp: Any) -> float:
        """Give sigma**(1 / rho)."""
        time: float = ratio ** (1.0 / self.rho)
        return time


class Seen(Schedule):
    """Show a model's schedule along another path: the same range of sigma / alpha, in other coordinates and with other spacing.

    Steps 0 to T - 1 are even in the path's time between the first and the last level of the schedule, which they keep. Where a path
    takes forever to noise without end, step T - 1 is the last level all the same, and those before are even up to a sigma of 164.
    The t of a level that it gives is that of the model's own schedule, which says what the network is told.

    Args:
        own: The model's schedule.
        path: The path.
    """

    def __init__(self, own: Schedule, path: Path) -> None:
        self.own, self.path = own, path
        self._arrives = math.isfinite(path.time_of_ratio(math.inf, math))
        last = own.at(own.timesteps - 1).ratio
        self._first_time, self._last_time = (
            path.time_of_ratio(ratio, math) for ratio in (own.at(0).ratio, last if self._arrives else min(last, MAX_SIGMA))
        )

    @property
    def is_continuous(self) -> bool:
        """Tell whether any t counts: where the path reaches noise alone in finite time."""
        return self._arrives

    def seen(self, level: Level) -> Level:
        """Give a level of the model's own schedule in the coordinates of the path.

        Where no signal is left it is noise of variance 1 on every path: infinite noise has no coordinates.
        """
        if level == CLEAN:
            return level
        if level.signal == 0.0:
            return Level(level.t, 0.0, 1.0)
        alpha, sigma = self.path.scales(self.path.time_of_ratio(level.ratio, math), math)
        return Level(level.t, alpha**2, sigma**2)

    def unseen(self, level: Level) -> Level:
        """Give the level of the model's own schedule that is seen as this one."""
        return self.own.level(level.t)

    @property
    def timesteps(self) -> int:
        """Give T, that of the model's schedule."""
        return self.own.timesteps

    def at(self, step: int) -> Level:
        """Give the level of a step in [-1, T).

        Raises:
            ScheduleError: If it is no step of this schedule.
        """
        return self._between(step) if 0 < step < self.timesteps - 1 else self.seen(self.own.at(step))

    def level(self, t: float) -> Level:
        """Give the level at a real t in [0, 1] of this grid; below that of step 0 there is none but clean data."""
        step = t * self.timesteps - 1.0
        if step < 0.0:
            return CLEAN if t == 0.0 else self.at(0)
        return self._between(step) if step < self.timesteps - 1 else self.at(self.timesteps - 1)

    def _between(self, step: float) -> Level:
        """The level of a real step between 0 and T - 1."""
        time = self._first_time + step / (self.timesteps - 1) * (self._last_time - self._first_time)
        alpha, sigma = self.path.scales(time, math)
        return self.level_of_ratio(sigma / alpha)

    def level_of_ratio(self, ratio: float) -> Level:
        """Find the level with this noise over signal, sigma / alpha, above 0; the nearest if there is none."""
        return self.seen(self.own.level_of_ratio(ratio))

    def told(self, level: Level) -> int | float:
        """Tell what a network is told of a level as its time."""
        return self.own.told(level)

    @property
    def signal_scales(self) -> Table:
        """Give the scale of the data in x_t of each step, alpha, float64 [T]."""
        return np.array([level.alpha for level in self._grid])

    @property
    def noise_scales(self) -> Table:
        """Give the scale of the noise in x_t of each step, sigma, float64 [T]."""
        return np.array([level.sigma for level in self._grid])

    @cached_property
    def _grid(self) -> list[Level]:
        return [self.at(step) for step in range(self.timesteps)]

    @property
    def sigmas(self) -> Table:
        """Give noise over signal, sigma / alpha, of each step, float64 [T]; infinite where no signal is left."""
        return np.array([level.ratio for level in self._grid])

    @property
    def snr(self) -> Table:
        """Give the signal-to-noise ratio (alpha / sigma)**2 of each step, a ratio of variances, float64 [T]."""
        return self.sigmas**-2

    @property
    def half_logsnr(self) -> Table:
        """Give log(alpha / sigma) of each step, the lambda of Lu et al. 2022, float64 [T]; -inf where no signal is left."""
        return -np.log(self.sigmas)

    @property
    def identity(self) -> Table:
        """Give numbers by which it can be told from any other schedule, float64."""
        return np.concatenate([np.ravel(self.own.identity), self.sigmas])


def along(schedule: Seen, step: Step) -> Step:
    """Let a sampler go along a path, of which neither its denoiser nor the world around it knows.

    x' = sqrt((alpha'**2 + sigma'**2) / (alpha**2 + sigma**2)) * x        (the same picture, where sigma' / alpha' = sigma / alpha)

    Args:
        schedule: What the sampler was built for.
        step: The sampler's step, in the coordinates of the path.
    Returns:
        The step function in those of the model's own schedule.
    """

    def factor(own: Level) -> float:
        level = schedule.seen(own)
        return math.sqrt((level.signal + level.noise) / (own.signal + own.noise))

    def on_the_path(denoise: Denoise) -> Denoise:
        def denoised(x: Tensor, level: Level) -> Denoised:
            own = schedule.unseen(level)
            return denoise(x / factor(own), own)

        return denoised

    def taken(denoise: Denoise, x_t: Tensor, t: Level, s: Level, noise: Noise) -> StepOutput:
        output = step(on_the_path(denoise), x_t * factor(t), schedule.seen(t), schedule.seen(s), noise)
        return output._replace(x_s=output.x_s / factor(s))

    return taken
