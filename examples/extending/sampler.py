"""Add a sampler: `ddpm sample --sampler euler-ancestral`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from ddpm_cli.config.schema.sample import SamplerBase
from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.levels import Level
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput
from ddpm_cli.diffusion.schedules import NoiseSchedule


class EulerAncestralSampler(SamplerBase):
    """Euler's method that goes too far down and adds noise again, as in k-diffusion."""

    kind: Literal["euler-ancestral"] = "euler-ancestral"
    usual_steps: ClassVar[int | None] = 50
    eta: float = Field(1.0, ge=0, le=1, description="0 is Euler's method; 1 has as much new noise as DDPM.")

    def build(self, schedule: NoiseSchedule, steps: int) -> Step:
        """Build the sampler's step."""

        def step(denoise: Denoise, x_t: Tensor, t: Level, s: Level, noise: Noise) -> StepOutput:
            estimate = denoise(x_t, t)
            # In units of the data's scale, so that where no signal is left at t, the shares are those of the limit.
            up = self.eta * s.ratio * (1.0 - (s.ratio / t.ratio) ** 2) ** 0.5
            down = (s.ratio**2 - up**2) ** 0.5
            x_s = s.alpha * (estimate.x0_hat + down * estimate.eps_hat)
            return StepOutput(x_s + s.alpha * up * noise() if up > 0.0 else x_s, estimate.x0_hat)

        return step
