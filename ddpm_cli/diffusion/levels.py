"""Name a noise level by how much signal and noise it has, which is all that a sampler asks of a schedule. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Level:
    """Name a noise level, at which x = alpha * x_0 + sigma * eps.

    The squares are kept, because they are what the table of a schedule holds: abar and 1 - abar.

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


CLEAN = Level(0.0, 1.0, 0.0)
"""The images themselves."""
