"""Sample a consistency model in one step or a few."""

from __future__ import annotations

from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.levels import CLEAN, Level
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput


def consistency() -> Step:
    """Sample by multistep consistency sampling along any list of levels (Song et al. 2023, Consistency Models, Alg. 1).

    x_s = alpha_s * x0_hat + sigma_s * z

    x0_hat is the end of the trajectory through x_t, and z is fresh noise, so that each step begins a trajectory of its own. The
    last step, to CLEAN, ends in x0_hat. Of a network that was not trained for it, x0_hat is a blurred mean.

    Returns:
        The step function.
    """

    def step(denoise: Denoise, x_t: Tensor, t: Level, s: Level, noise: Noise) -> StepOutput:
        x0_hat = denoise(x_t, t).x0_hat
        return StepOutput(x0_hat if s == CLEAN else s.alpha * x0_hat + s.sigma * noise(), x0_hat)

    return step
