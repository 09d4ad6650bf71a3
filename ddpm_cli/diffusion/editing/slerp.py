"""Go from one noise to another on a way that stays as long as noise is."""

from __future__ import annotations

import torch
from torch import Tensor

NEARLY_PARALLEL = 1e-4
"""Radians below which, or that much below pi, an arc is not told from a line."""


def slerp(x: Tensor, y: Tensor, share: float) -> Tensor:
    """Interpolate between noises along an arc of a sphere (Shoemake 1985; Song et al. 2021, DDIM, Sec. 5.3).

    angle = arccos(<x, y> / (|x| |y|))
    result = sin((1 - share) * angle) / sin(angle) * x + sin(share * angle) / sin(angle) * y

    Where x and y are of the same length, so is the result; a straight line would pass through shorter ones, which a denoiser does
    not take for noise. Where they are parallel, it is the straight line.

    Args:
        x: [B, C, H, W]; angles are taken image by image.
        y: Shaped like x.
        share: Of the way, in [0, 1]; 0 is x and 1 is y.
    Returns:
        Shaped like x.
    """
    cosine = torch.nn.functional.cosine_similarity(x.flatten(1), y.flatten(1)).view(-1, *[1] * (x.ndim - 1))
    angle = torch.arccos(cosine.clamp(-1.0, 1.0))
    arc = (torch.sin((1.0 - share) * angle) * x + torch.sin(share * angle) * y) / torch.sin(angle)
    parallel = torch.sin(angle).abs() < NEARLY_PARALLEL
    return torch.where(parallel, torch.lerp(x, y, share), arc)
