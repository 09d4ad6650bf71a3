"""Add a noise schedule: `--set schedule=exponential`."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ddpm_cli.config.schema.schedule import ScheduleBase
from ddpm_cli.diffusion.schedules import betas_from_alphas_cumprod


class ExponentialSchedule(ScheduleBase):
    """Let abar fall exponentially: abar = exp(-rate * (t + 1) / T)."""

    kind: Literal["exponential"] = "exponential"
    rate: float = Field(10.0, gt=0, le=40, description="How often the signal falls by 1/e until the last step.")

    def make_betas(self) -> NDArray[np.float64]:
        """Make the betas, float64 [T]."""
        steps = np.arange(1, self.timesteps + 1)
        return betas_from_alphas_cumprod(np.exp(-self.rate * steps / self.timesteps))
