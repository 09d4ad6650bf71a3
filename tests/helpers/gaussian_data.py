"""A data set of one Gaussian, N(MEAN, COVARIANCE) in 4 dimensions, for which the best denoiser is known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from ddpm_cli.diffusion.denoise import Denoise
from ddpm_cli.diffusion.levels import Level
from ddpm_cli.diffusion.prediction import Denoised

DIM = 4
SHAPE = (1, 2, 2)
EYE = torch.eye(DIM, dtype=torch.float64)
MEAN = torch.tensor([0.3, -0.2, 0.1, 0.5], dtype=torch.float64)
_ROOT = torch.tensor(
    [[0.9, 0.0, 0.0, 0.0], [0.4, 0.8, 0.0, 0.0], [-0.3, 0.2, 0.7, 0.0], [0.2, -0.4, 0.1, 0.8]], dtype=torch.float64
)
COVARIANCE = _ROOT @ _ROOT.T
"""Its eigenvalues are 0.22 to 1.22."""


def best_denoise() -> Denoise:
    """E[x_0 | x_t] = m + alpha C (alpha**2 C + sigma**2 I)^-1 (x_t - alpha m)."""

    def denoise(x_t: Tensor, t: Level) -> Denoised:
        gain = t.alpha * torch.linalg.solve(t.signal * COVARIANCE + t.noise * EYE, COVARIANCE)
        flat = x_t.flatten(1)
        x0_hat = MEAN + (flat - t.alpha * MEAN) @ gain
        eps_hat = (flat - t.alpha * x0_hat) / t.sigma
        return Denoised(x0_hat.view_as(x_t), eps_hat.view_as(x_t))

    return denoise


def coupled_denoise() -> Denoise:
    """E[x_0 | x_t] where x_0 = m + R eps, the optimal transport of the noise to the data, R R = C: x_t tells both.

    x_t = alpha m + (alpha R + sigma I) eps
    """
    values, vectors = torch.linalg.eigh(COVARIANCE)
    root = vectors @ torch.diag(values.sqrt()) @ vectors.T

    def denoise(x_t: Tensor, t: Level) -> Denoised:
        eps_hat = torch.linalg.solve(t.alpha * root + t.sigma * EYE, (x_t.flatten(1) - t.alpha * MEAN).T).T
        return Denoised((MEAN + eps_hat @ root).view_as(x_t), eps_hat.view_as(x_t))

    return denoise


def affine(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """The map x -> A x + b from what it makes of 0 and of the unit vectors."""
    flat = outputs.flatten(1)
    return (flat[1:] - flat[0]).T, flat[0]


PROBES = torch.cat([torch.zeros(1, DIM, dtype=torch.float64), EYE]).view(-1, *SHAPE)
