"""Change images in ways that samples do not show (Karras et al. 2022, App. F.2).

Each geometric transformation is applied to an image with the same probability. The network is told which by a vector, so that it
learns the images as they are beside the transformed ones; samples are drawn with the vector 0. Written from the paper alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from ddpm_cli.core.compute.seeds import generator

TRANSFORMATIONS = ("x-flip", "y-flip", "scale", "rotate", "stretch", "shift")
"""In the order in which an image goes through them, that of the paper's Table 6."""
GROWTH = 2**0.2
"""A scaled or stretched image grows by GROWTH ** a, a being standard normal."""
SHIFT = 1 / 8
"""Standard deviation of a translation, as a part of the image's side."""
OWNERS = (0, 1, 2, 3, 4, 4, 5, 5)
"""Place in TRANSFORMATIONS of what each of the parameters a_0 to a_7 belongs to."""
FINE = 2
"""Points along each axis of a pixel that a shrunken image is sampled at: they lie closer than its pixels until it is half as large,
five standard deviations of the scale."""


@dataclass(frozen=True)
class Augmentation:
    """Draw transformations; they are a pure function of (seed, step, row of the global batch), as the batches are.

    Attributes:
        probability: Of each transformation, in [0, 1].
        transformations: Those that may be applied, of TRANSFORMATIONS.
    """

    probability: float
    transformations: tuple[str, ...] = TRANSFORMATIONS
    vector_size = 9
    """Of `condition`."""

    def draw(self, seed: int, step: int, batch_size: int) -> Tensor:
        """Draw the parameters of a batch, 0 for what is not applied (Karras et al. 2022, Table 6).

        a_0, a_1   mirror to the left, upside down: 0 or 1, one as likely as the other
        a_2        scale: N(0, 1)
        a_3        rotate: U(-pi, pi)
        a_4, a_5   stretch: the axis, U(-pi, pi), and how far, N(0, 1)
        a_6, a_7   shift: N(0, 1)

        Returns:
            float32, [batch_size, 8], on the CPU.
        """
        draws = generator(torch.device("cpu"), seed, "augmentation", step)
        enabled = torch.rand(batch_size, len(TRANSFORMATIONS), generator=draws) < self.probability
        enabled &= torch.tensor([name in self.transformations for name in TRANSFORMATIONS])
        flips = torch.randint(2, (batch_size, 2), generator=draws).float()
        angles = math.pi * (2 * torch.rand(batch_size, 2, generator=draws) - 1)
        normal = torch.randn(batch_size, 4, generator=draws)
        a = torch.cat([flips, normal[:, :1], angles, normal[:, 1:]], dim=1)
        return torch.where(enabled[:, OWNERS], a, 0.0)


def condition(a: Tensor) -> Tensor:
    """Make the vector that tells the network what was applied (Karras et al. 2022, App. F.2).

    a_0, a_1, a_2, cos a_3 - 1, sin a_3, a_5 cos a_4, a_5 sin a_4, a_6, a_7

    Args:
        a: Parameters, [B, 8], see `Augmentation.draw`.
    Returns:
        [B, 9], 0 where nothing was applied.
    """
    turn, axis, stretch = a[:, 3], a[:, 4], a[:, 5]
    mixed = torch.stack([turn.cos() - 1, turn.sin(), stretch * axis.cos(), stretch * axis.sin()], dim=1)
    return torch.cat([a[:, :3], mixed, a[:, 6:]], dim=1)


def augmented(x_0: Tensor, a: Tensor) -> Tensor:
    """Change images by transformations; what none is applied to stays as it is, to the bit, and flips move pixels alone.

    The other transformations of an image are one affine map, through which it is sampled once, by cubic interpolation, which keeps
    what is enlarged smooth. Where the map makes an image smaller along some axis, details finer than a pixel would turn up as
    coarse ones: there each pixel is the mean of 2x2 points in it. Beyond the border the image is reflected. What interpolation
    shoots beyond [-1, 1] is clipped.

    Args:
        x_0: Images in [-1, 1], float32, [B, C, H, W].
        a: Parameters, [B, 8], on the CPU.
    Returns:
        Images in [-1, 1], shaped like x_0; x_0 itself if nothing is applied at all.
    """
    for column, axis in ((0, -1), (1, -2)):
        x_0 = _where(a[:, column] != 0, partial(torch.flip, dims=(axis,)), x_0)
    moved, shrunken = (a[:, 2:] != 0).any(dim=1), a[:, 2] < a[:, 5].abs()
    for chosen, points in ((moved & ~shrunken, 1), (moved & shrunken, FINE)):
        x_0 = _where(chosen, partial(warp, a=a[chosen], points=points), x_0)
    return x_0


def _where(chosen: Tensor, function: Callable[[Tensor], Tensor], x_0: Tensor) -> Tensor:
    """Images of which a function has changed the chosen ones, a mask on the CPU; it costs nothing where there is none."""
    if not chosen.any():
        return x_0
    rows = chosen.nonzero()[:, 0].to(x_0.device)
    return x_0.index_copy(0, rows, function(x_0[rows]))


def affine_map(a: Tensor) -> Tensor:
    """Make the linear part of the map from an image to its transformed one, in pixels to the right and downwards.

    stretch @ rotate @ scale with scale = GROWTH ** a_2, rotate = R(-a_3) and
    stretch = R(a_4) diag(GROWTH ** a_5, GROWTH ** -a_5) R(-a_4)

    Args:
        a: Parameters, [B, 8].
    Returns:
        [B, 2, 2].
    """
    along, across = GROWTH ** a[:, 5], GROWTH ** -a[:, 5]
    stretch = _rotation(a[:, 4]) @ torch.diag_embed(torch.stack([along, across], dim=1)) @ _rotation(-a[:, 4])
    return GROWTH ** a[:, 2, None, None] * stretch @ _rotation(-a[:, 3])


def warp(x_0: Tensor, a: Tensor, points: int) -> Tensor:
    """Scale, rotate, stretch and shift images.

    Args:
        x_0: Images in [-1, 1], float32, [B, C, H, W].
        a: Parameters, [B, 8], of which a_2 to a_7 count, on the CPU.
        points: Along each axis of a pixel, whose mean it becomes.
    Returns:
        Images in [-1, 1], shaped like x_0.
    """
    batch, channels, height, width = x_0.shape
    half = torch.tensor([width / 2, height / 2])
    # Where a place of the result lies in the image, both in units of half a side: back @ (place - shift).
    back = torch.linalg.inv(affine_map(a)) * half / half[:, None]
    theta = torch.cat([back, -2 * SHIFT * back @ a[:, 6:, None]], dim=2)
    size = [batch, channels, points * height, points * width]
    grid = functional.affine_grid(theta.to(x_0.device), size, align_corners=False)
    fine = functional.grid_sample(x_0, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return functional.avg_pool2d(fine, points).clamp(-1.0, 1.0)


def _rotation(angle: Tensor) -> Tensor:
    """Rotations, [B, 2, 2], from the first axis to the second."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)
