"""Add a sampler: `ddpm sample --sampler midpoint`."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from ddpm_cli.config.schema.sample import SamplerBase
from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.levels import CLEAN, Level
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput
from ddpm_cli.diffusion.schedules import NoiseSchedule


class MidpointSampler(SamplerBase):
    """Follow the midpoint method in sigma (Karras et al. 2022, Alg. 3, alpha = 1/2). n steps are 2n - 1 network evaluations."""

    kind: Literal["midpoint"] = "midpoint"
    usual_steps: ClassVar[int | None] = 20

    def evaluations(self, timesteps: int) -> int:
        """Count network evaluations: two for each step but the last, to the images, which is Euler's."""
        return 2 * self.number_of_steps(timesteps) - 1

    def build(self, schedule: NoiseSchedule, steps: int) -> Step:
        """Build the sampler's step, d(x / alpha) / d ratio = eps_hat with the slope of half way down."""

        def step(denoise: Denoise, x_t: Tensor, t: Level, s: Level, noise: Noise) -> StepOutput:
            start = denoise(x_t, t)
            euler = s.alpha * start.x0_hat + s.sigma * start.eps_hat
            if s == CLEAN or t.signal == 0.0:  # no level lies half way
                return StepOutput(euler, start.x0_hat)
            m = schedule.level_of_ratio((t.ratio + s.ratio) / 2)
            middle = denoise(m.alpha * start.x0_hat + m.sigma * start.eps_hat, m)
            # ratio_m * (eps_m - eps_t) = x0_t - x0_m, of which the latter keeps its digits where all is noise.
            change = s.alpha * (t.ratio - s.ratio) / m.ratio * (middle.x0_hat - start.x0_hat)
            return StepOutput(euler + change, middle.x0_hat)

        return step
