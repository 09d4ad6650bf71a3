"""Compare what a model makes of given noise with what another program, or another way, makes of the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddpm_cli.diffusion.denoise import make_denoise
from ddpm_cli.diffusion.sampling import sample
from ddpm_cli.sampling.trained_model import guided_predictor

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import SamplerConfig
    from ddpm_cli.diffusion.sampling import Noise
    from ddpm_cli.sampling.trained_model import TrainedModel

MOST_STEPS = 10
Denoiser = Callable[..., Tensor]
"""Called as denoiser(x, t), or denoiser(x, t, labels) if it takes class labels."""
STEPS = 1000
"""Random noise levels for comparing are drawn below this."""


def few_steps(timesteps: int) -> int:
    """Choose how many of T steps to compare by: the largest divisor of T up to MOST_STEPS, which every program spaces alike."""
    return max(n for n in range(1, MOST_STEPS + 1) if timesteps % n == 0)


def seeded_noise(shape: tuple[int, ...], seed: int) -> Noise:
    """Draw standard normal noise of this shape, one after another out of one generator on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator)


def sample_from(trained: TrainedModel, sampler: SamplerConfig, x_T: Tensor, noise: Noise, labels: Tensor | None = None) -> Tensor:
    """Sample images, [B, C, H, W] about in [-1, 1], from x_T [B, C, H, W] and, where the sampler adds some, further noise.

    Guidance, path and threshold are those of the run's own `[sample]` section; `labels`, int64 [B], are for a model with classes.
    """
    settings = trained.config.sample.model_copy(update={"sampler": sampler})
    step, levels = settings.prepare(trained.schedule)
    predict, threshold = guided_predictor(trained, settings), settings.threshold.build()
    return sample(make_denoise(predict, trained.schedule, threshold=threshold, labels=labels), step, levels, x_T, noise)


def prediction_difference(trained: TrainedModel, other: Denoiser) -> float:
    """Find the largest difference between what a model's network and `other` predict on the CPU, see `largest_difference`."""
    labels = None if trained.num_classes is None else trained.num_classes + 1  # the null label
    return largest_difference(trained.network, other, trained.image_shape, labels=labels)


@torch.no_grad()
def largest_difference(
    a: Denoiser, b: Denoiser, shape: Sequence[int], batches: Sequence[int] = (1, 3), labels: int | None = None
) -> float:
    """Find the largest absolute difference of two denoisers on random images, noise levels and labels; NaN if either gives NaN.

    Args:
        a: Denoiser on the CPU.
        b: Denoiser on the CPU.
        shape: (C, H, W) of an image.
        batches: Batch sizes to try.
        labels: How many labels the denoisers know, the null label included; None if they take none.
    """
    generator = torch.Generator().manual_seed(0)
    differences = []
    for batch in batches:
        x = torch.randn(batch, *shape, generator=generator)
        t = torch.randint(STEPS, (batch,), generator=generator)
        inputs = (x, t) if labels is None else (x, t, torch.randint(labels, (batch,), generator=generator))
        differences.append((a(*inputs) - b(*inputs)).abs().max())
    return torch.stack(differences).max().item()
