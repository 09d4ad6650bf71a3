"""A mixture of three Gaussians in the plane, whose best denoiser is known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.levels import Level
from ddpm_cli.diffusion.prediction import Denoised

MEANS = torch.tensor([[0.6, 0.4], [-0.7, 0.2], [0.1, -0.8]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
VARIANCE = 0.04


def best_x_0(y: Tensor, sigma: float) -> Tensor:
    """E[x_0 | y], y = x_0 + sigma * eps, [B, 2]."""
    total = VARIANCE + sigma**2
    away = y[:, None] - MEANS
    share = torch.softmax(WEIGHTS.log() - away.square().sum(-1) / (2 * total), dim=1)
    return (share[..., None] * (MEANS + VARIANCE / total * away)).sum(1)


def best_denoise() -> Denoise:
    def denoise(x_t: Tensor, t: Level) -> Denoised:
        if t.signal == 0.0:
            return Denoised((WEIGHTS @ MEANS).expand_as(x_t), x_t / t.sigma)
        y = x_t / t.alpha
        x0_hat = best_x_0(y, t.ratio)
        return Denoised(x0_hat, (y - x0_hat) / t.ratio)

    return denoise


def draw(count: int, generator: torch.Generator) -> Tensor:
    component = torch.multinomial(WEIGHTS, count, replacement=True, generator=generator)
    return MEANS[component] + VARIANCE**0.5 * torch.randn(count, 2, dtype=torch.float64, generator=generator)
