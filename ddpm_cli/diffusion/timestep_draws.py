"""How training draws the step of each image."""

from __future__ import annotations

from typing import Literal, assert_never

import torch
from torch import Tensor

TimestepDraws = Literal["uniform", "stratified"]


def draw_timesteps(
    kind: TimestepDraws, batch: int, timesteps: int, generator: torch.Generator, device: torch.device | str
) -> Tensor:
    """Draw one step for each image of a batch; each alone is uniform over all steps.

    uniform:    independent draws (DDPM, Alg. 1)
    stratified: floor(T * ((u + i / B) mod 1)) with one u ~ U[0, 1) per batch (Kingma et al. 2021, VDM, App. I.1); the batch is
                spread evenly, which lowers the variance of its mean loss

    Args:
        kind: "uniform" or "stratified".
        batch: B, the number of images.
        timesteps: T, the number of noise levels.
        generator: Where the randomness comes from; on any device.
        device: Where the result goes.
    Returns:
        Steps in [0, T), int64, [B].
    """
    match kind:
        case "uniform":
            t = torch.randint(timesteps, (batch,), generator=generator, device=generator.device)
        case "stratified":
            u = torch.rand((), generator=generator, device=generator.device).double().cpu()
            shares = (u + torch.arange(batch, dtype=torch.float64) / batch) % 1.0
            t = (timesteps * shares).long().clamp_(max=timesteps - 1)
        case _:
            assert_never(kind)
    return t.to(device)
