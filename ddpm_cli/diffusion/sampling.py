"""Run the one reverse loop (DDPM, Alg. 2): from noise to images, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.levels import CLEAN, Level
from ddpm_cli.errors import ScheduleError

Noise = Callable[[], Tensor]
"""Each call returns fresh standard normal noise, shaped like x_t."""


class StepOutput(NamedTuple):
    """Hold what one reverse step made, [B, C, H, W] each.

    Attributes:
        x_s: The images at the next, less noisy step.
        x0_hat: The estimate of the clean images that it is made from.
    """

    x_s: Tensor
    x0_hat: Tensor


Step = Callable[[Denoise, Tensor, Level, Level, Noise], StepOutput]
"""step(denoise, x_t, t, s, noise) goes from level t to the less noisy level s, which may be CLEAN."""


class ImageNoise:
    """Draw standard normal noise with one generator per image, so that image i depends on its seed alone, not on its batch.

    Each call returns the next noise, [B, C, H, W]; the first is x_T. Noise is drawn on the CPU in float32, so that it is the same
    on every device and for every dtype.

    Args:
        seeds: One seed for each image.
        shape: (C, H, W).
        device: Where the noise goes.
        dtype: What the noise is cast to.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: tuple[int, int, int],
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        self.shape = (len(seeds), *shape)
        self.device = torch.device(device)
        self._dtype = dtype

    def __call__(self) -> Tensor:
        """Return the next noise, [B, C, H, W]."""
        noise = torch.empty(self.shape, dtype=torch.float32)
        self.fill(noise)
        return noise.to(device=self.device, dtype=self._dtype)

    def fill(self, noise: Tensor, images: slice = slice(None)) -> None:
        """Draw the next noise of some images.

        Args:
            noise: Where it goes, float32 on the CPU, [B, C, H, W].
            images: Which of the B; threads may draw for different ones at the same time.
        """
        for of_image, generator in zip(noise[images], self._generators[images], strict=True):
            torch.randn(of_image.shape, generator=generator, out=of_image)


def sample_steps(denoise: Denoise, step: Step, levels: Sequence[Level], x_T: Tensor, noise: Noise) -> Iterator[StepOutput]:
    """Denoise x_T along a list of levels and yield what each step made, without gradients.

    Args:
        denoise: The denoiser, see make_denoise.
        step: A sampler's step function; a new one for each call.
        levels: Of falling noise, CLEAN not among them. Each step goes to the next of them, the last one to CLEAN.
        x_T: Images at levels[0], [B, C, H, W]; pure noise where that is the schedule's last.
        noise: Fresh noise for samplers that add some.
    Yields:
        One StepOutput per level; the last one's x_s are the images.
    Raises:
        ScheduleError: If there are no levels, or their noise does not fall.
    """
    path = [*levels, CLEAN]
    if len(path) == 1 or any(s.t >= t.t for t, s in pairwise(path)):
        raise ScheduleError("The steps of a sampler must be one or more, strictly descending and not negative.")
    x_t = x_T
    for t, s in pairwise(path):
        # Not around the yield: the caller's own gradient mode must hold between steps.
        with torch.no_grad():
            output = step(denoise, x_t, t, s, noise)
        yield output
        x_t = output.x_s


def sample(denoise: Denoise, step: Step, levels: Sequence[Level], x_T: Tensor, noise: Noise) -> Tensor:
    """Denoise x_T to images (DDPM, Alg. 2); arguments and errors as in sample_steps.

    Returns:
        x_0, [B, C, H, W].
    """
    x_0 = x_T
    for output in sample_steps(denoise, step, levels, x_T, noise):
        x_0 = output.x_s
    return x_0
