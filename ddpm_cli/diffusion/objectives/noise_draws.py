"""Choose the noise that training mixes into an image."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest_noise(x_0: Tensor, candidates: Tensor) -> Tensor:
    """Take for each image the nearest of several draws of noise (Li et al. 2024, Immiscible Diffusion, image by image).

    eps = argmin over k of ||candidates[k] - x_0||^2

    What is to be learned is then less ambiguous where there is much noise, as fewer images share a region of it. Each image chooses
    among its own draws: neither the other images of a batch nor the number of processes change what it gets.

    Args:
        x_0: Images, [B, C, H, W].
        candidates: Draws of N(0, I) for each image, [B, K, C, H, W].
    Returns:
        One of them for each image, [B, C, H, W].
    """
    distances = (candidates - x_0[:, None]).flatten(2).square().sum(2)
    nearest = distances.argmin(1)
    return candidates[torch.arange(len(x_0), device=x_0.device), nearest]
