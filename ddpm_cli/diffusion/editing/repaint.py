"""Fill a part of an image so that it goes with the rest (Lugmayr et al. 2022, RePaint)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.forward import noise_further
from ddpm_cli.diffusion.levels import CLEAN, Level
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput
from ddpm_cli.errors import ScheduleError


def repaint_path(levels: Sequence[Level], jump: int, resample: int) -> list[Level]:
    """List the levels of noise that RePaint visits (Lugmayr et al. 2022, Alg. 1 and Sec. 4.2); where they rise it jumps back.

    Counted from the clean end, each `jump` steps are taken `resample` times; what is left at the noisy end is taken once, and so
    is the step to clean data. With jump = 1 this is Alg. 1.

    Args:
        levels: Those of a sampler, of falling noise.
        jump: Steps between jumps, which are as long, at least 1.
        resample: How many times they are taken, at least 1; 1 never jumps.
    Returns:
        Levels, the last one CLEAN.
    Raises:
        ScheduleError: If there are too few steps for a jump, or a number is not positive.
    """
    if jump < 1 or resample < 1:
        raise ScheduleError(f"Jumps of {jump} and {resample} samplings are not both positive.", "Choose numbers from 1 on.")
    if resample > 1 and jump >= len(levels):
        raise ScheduleError(
            f"A jump of {jump} steps does not fit into {len(levels)}.",
            f"Jump over at most {len(levels) - 1}, or take more steps.",
        )
    first = (len(levels) - 1) % jump
    path = list(levels[: first + 1])
    for start in range(first, len(levels) - 1, jump):
        block = levels[start + 1 : start + 1 + jump]
        path += block
        for _ in range(resample - 1):
            path += [levels[start], *block]
    return [*path, CLEAN]


def repaint_steps(
    denoise: Denoise, step: Step, path: Sequence[Level], x_0: Tensor, unknown: Tensor, noise: Noise
) -> Iterator[StepOutput]:
    """Fill what is unknown of images (Lugmayr et al. 2022, RePaint, Alg. 1, Eq. 8).

    x_s_known = alpha_s * x_0 + sigma_s * z
    x_s = x_s_unknown, the sampler's, where unknown, else x_s_known
    a jump back from s to t: see noise_further

    Args:
        denoise: The denoiser, see make_denoise.
        step: A sampler's step function without a memory of the steps before; RePaint's is `ddpm`.
        path: Levels of noise, see repaint_path.
        x_0: Images in [-1, 1], [B, C, H, W]; what they hold where they are unknown does not count.
        unknown: True where images are to be filled, bool, fit to be broadcast to x_0.
        noise: Standard normal noise shaped like x_0; the first is x_T.
    Yields:
        One StepOutput for each step that denoises; the last one's x_s are the images, equal to x_0 where that is known.
    """
    x_t = noise()
    for t, s in pairwise(path):
        if s.t > t.t:
            x_t = noise_further(x_t, t, s, noise())
            continue
        # Not around the yield: the caller's own gradient mode must hold between steps.
        with torch.no_grad():
            output = step(denoise, x_t, t, s, noise)
        known = x_0 if s == CLEAN else noise_further(x_0, CLEAN, s, noise())
        x_t = torch.where(unknown, output.x_s, known)
        yield StepOutput(x_t, output.x0_hat)
