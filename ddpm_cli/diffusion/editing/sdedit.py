"""Edit an image by noising it part of the way and denoising it again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.forward import noise_further
from ddpm_cli.diffusion.levels import CLEAN, Level
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput, sample_steps
from ddpm_cli.errors import ScheduleError


def sdedit_levels(levels: Sequence[Level], strength: float) -> list[Level]:
    """List the last levels of a sampler, those that an edit of some strength takes; the first of them is SDEdit's t_0.

    Args:
        levels: Those of the sampler, of falling noise.
        strength: Share of the steps, in [0, 1].
    Raises:
        ScheduleError: If the strength is no such share.
    """
    if not 0.0 <= strength <= 1.0:
        raise ScheduleError(f"An edit's strength lies between 0 and 1 and cannot be {strength:g}.", "Choose for example 0.5.")
    kept = round(strength * len(levels))
    return list(levels[len(levels) - kept :])


def sdedit_steps(
    denoise: Denoise, step: Step, levels: Sequence[Level], strength: float, x_0: Tensor, noise: Noise
) -> Iterator[StepOutput]:
    """Change images while keeping what is coarse in them (Meng et al. 2022, SDEdit, Sec. 3, with the process of DDPM, Eq. 4).

    x_t = alpha_t * x_0 + sigma_t * eps at t = t_0, then denoised as ever

    A strength that takes no step yields x_0 itself. One that takes all of them begins with noise alone, not with the little that
    is left of x_0 at the last level: then nothing of the image counts, and it is what `sample` makes of that noise.

    Args:
        denoise: The denoiser, see make_denoise.
        step: A sampler's step function; a new one for each call.
        levels: All of the sampler.
        strength: Share of these that are taken, in [0, 1].
        x_0: Images in [-1, 1], [B, C, H, W].
        noise: Standard normal noise shaped like x_0; the first is eps.
    Yields:
        One StepOutput for each step; the last one's x_s are the images.
    Raises:
        ScheduleError: If the strength is no share.
    """
    taken = sdedit_levels(levels, strength)
    if not taken:
        yield StepOutput(x_0, x_0)
        return
    eps = noise()
    x_t = eps if len(taken) == len(levels) else noise_further(x_0, CLEAN, taken[0], eps)
    yield from sample_steps(denoise, step, taken, x_t, noise)
