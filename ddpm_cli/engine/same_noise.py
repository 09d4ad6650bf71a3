"""Images of a sampler from noise that is given, to compare them with what another program makes of the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddpm_cli.diffusion.denoise import make_denoise, predictor
from ddpm_cli.diffusion.sampling import sample
from ddpm_cli.engine.build import build_guided, build_parameterization, build_sampler, build_threshold

if TYPE_CHECKING:
    from ddpm_cli.config.schema import SamplerConfig
    from ddpm_cli.diffusion.denoise import Denoise
    from ddpm_cli.diffusion.sampling import Noise
    from ddpm_cli.engine.generate import TrainedModel

MOST_STEPS = 10


def few_steps(timesteps: int) -> int:
    """How many of T steps to compare by: the largest divisor of T up to MOST_STEPS, so that every program spaces them alike."""
    return max(n for n in range(1, MOST_STEPS + 1) if timesteps % n == 0)


def seeded_noise(shape: tuple[int, ...], seed: int) -> Noise:
    """Standard normal noise of this shape, one after another out of one generator on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator)


def denoiser(trained: TrainedModel, labels: Tensor | None = None) -> Denoise:
    """The denoiser that a run's own `[sample]` section describes, for images of these labels."""
    predict = predictor(trained.network, trained.schedule, build_parameterization(trained.config.objective))
    predict = build_guided(trained.config.sample.guidance, predict, trained.schedule, trained.num_classes)
    return make_denoise(predict, trained.schedule, threshold=build_threshold(trained.config.sample.threshold), labels=labels)


def sample_from(trained: TrainedModel, sampler: SamplerConfig, x_T: Tensor, noise: Noise, labels: Tensor | None = None) -> Tensor:
    """Images, [B, C, H, W] about in [-1, 1], from x_T [B, C, H, W] and, where the sampler adds some, further noise."""
    step, timesteps = build_sampler(sampler, trained.schedule)
    return sample(denoiser(trained, labels), step, timesteps, x_T, noise)
