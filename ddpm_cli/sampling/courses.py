"""Bring about images along a sampler's steps: out of noise alone, or out of something that is known of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.editing.repaint import repaint_path, repaint_steps
from ddpm_cli.diffusion.editing.sdedit import sdedit_levels, sdedit_steps
from ddpm_cli.diffusion.levels import Level
from ddpm_cli.diffusion.sampling import Noise, Step, StepOutput, sample_steps


class Course(Protocol):
    """Say what becomes of a batch of images."""

    def length(self, levels: Sequence[Level]) -> int:
        """Count how many times `run` denoises for a sampler that visits these levels; each time yields a StepOutput."""
        ...

    def run(
        self, denoise: Denoise, step: Step, levels: Sequence[Level], seeds: Sequence[int], noise: Noise
    ) -> Iterator[StepOutput]:
        """Make an image for each seed; the last StepOutput's x_s are the images, [B, C, H, W]."""
        ...


class FromNoise:
    """Draw images out of noise alone (DDPM, Alg. 2)."""

    def length(self, levels: Sequence[Level]) -> int:
        """Count one for each step."""
        return len(levels)

    def run(
        self, denoise: Denoise, step: Step, levels: Sequence[Level], seeds: Sequence[int], noise: Noise
    ) -> Iterator[StepOutput]:
        """Denoise the first noise."""
        return sample_steps(denoise, step, levels, noise(), noise)


@dataclass(frozen=True)
class FromLatents:
    """Draw images out of given noises, whose numbers stand in the place of seeds.

    Attributes:
        latents: x_T of each image, [N, C, H, W].
    """

    latents: Tensor

    def length(self, levels: Sequence[Level]) -> int:
        """Count one for each step."""
        return len(levels)

    def run(
        self, denoise: Denoise, step: Step, levels: Sequence[Level], seeds: Sequence[int], noise: Noise
    ) -> Iterator[StepOutput]:
        """Denoise the latents with the numbers `seeds`."""
        return sample_steps(denoise, step, levels, self.latents[list(seeds)], noise)


@dataclass(frozen=True)
class Edited:
    """Draw variants of an image (see `sdedit_steps`).

    Attributes:
        x_0: The image, in [-1, 1], [1, C, H, W].
        strength: In [0, 1].
    """

    x_0: Tensor
    strength: float

    def length(self, levels: Sequence[Level]) -> int:
        """Count one for each step that is taken; 0 where the image stays as it is."""
        return len(sdedit_levels(levels, self.strength))

    def run(
        self, denoise: Denoise, step: Step, levels: Sequence[Level], seeds: Sequence[int], noise: Noise
    ) -> Iterator[StepOutput]:
        """Noise the image and denoise it."""
        x_0 = self.x_0.expand(len(seeds), *self.x_0.shape[1:])
        return sdedit_steps(denoise, step, levels, self.strength, x_0, noise)


@dataclass(frozen=True)
class Filled:
    """Fill a part of an image (see `repaint_steps`).

    Attributes:
        x_0: The image, in [-1, 1], [1, C, H, W].
        unknown: True where it is to be filled, bool, [H, W].
        jump: Steps between jumps.
        resample: How many times steps are taken.
    """

    x_0: Tensor
    unknown: Tensor
    jump: int
    resample: int

    def length(self, levels: Sequence[Level]) -> int:
        """Count one for each time that a step is taken."""
        path = repaint_path(levels, self.jump, self.resample)
        return sum(s.t < t.t for t, s in pairwise(path))

    def run(
        self, denoise: Denoise, step: Step, levels: Sequence[Level], seeds: Sequence[int], noise: Noise
    ) -> Iterator[StepOutput]:
        """Denoise with jumps back, and put what is known into each step."""
        path = repaint_path(levels, self.jump, self.resample)
        return repaint_steps(denoise, step, path, self.x_0, self.unknown, noise)
