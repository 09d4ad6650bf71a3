"""What a model makes of noise that is given, to compare it with what another program, or another way, makes of the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddpm_cli.build.sampler import build_sampler
from ddpm_cli.diffusion.denoise import make_denoise
from ddpm_cli.diffusion.sampling import sample
from ddpm_cli.interop.formats.torch_export import Denoiser, largest_difference
from ddpm_cli.sampling.trained_model import guided_predictor

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import SamplerConfig
    from ddpm_cli.diffusion.sampling import Noise
    from ddpm_cli.sampling.trained_model import TrainedModel

MOST_STEPS = 10


def few_steps(timesteps: int) -> int:
    """How many of T steps to compare by: the largest divisor of T up to MOST_STEPS, so that every program spaces them alike."""
    return max(n for n in range(1, MOST_STEPS + 1) if timesteps % n == 0)


def seeded_noise(shape: tuple[int, ...], seed: int) -> Noise:
    """Standard normal noise of this shape, one after another out of one generator on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator)


def sample_from(trained: TrainedModel, sampler: SamplerConfig, x_T: Tensor, noise: Noise, labels: Tensor | None = None) -> Tensor:
    """Images, [B, C, H, W] about in [-1, 1], from x_T [B, C, H, W] and, where the sampler adds some, further noise.

    Guidance and threshold are those of the run's own `[sample]` section; `labels`, int64 [B], are for a model with classes.
    """
    settings, (step, levels) = trained.config.sample, build_sampler(sampler, trained.schedule)
    predict, threshold = guided_predictor(trained, settings), settings.threshold.build()
    return sample(make_denoise(predict, trained.schedule, threshold=threshold, labels=labels), step, levels, x_T, noise)


def prediction_difference(trained: TrainedModel, other: Denoiser) -> float:
    """Largest absolute difference between what a model's network and `other` predict on the CPU, see `largest_difference`."""
    labels = None if trained.num_classes is None else trained.num_classes + 1  # the null label
    return largest_difference(trained.network, other, trained.image_shape, labels=labels)
