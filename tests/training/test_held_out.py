from __future__ import annotations

import pytest
import torch
from torch import nn

from ddpm_cli.config.schema.objective import ObjectiveConfig
from ddpm_cli.diffusion.schedules import NoiseSchedule, make_beta_schedule
from ddpm_cli.training.held_out import held_out_losses


def test_the_held_out_loss_depends_on_neither_the_batch_size_nor_the_processes() -> None:
    class Affine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.5))

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            sizes.append(len(x))
            return self.scale * x + t[:, None, None, None] / 100

    images = torch.randint(256, (150, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    sizes: list[int] = []

    def loss(batch_size: int, *parts: slice) -> float:
        schedule, of_config = NoiseSchedule.from_betas(make_beta_schedule("linear", 20)), ObjectiveConfig().build_loss()
        return float(sum(held_out_losses(Affine(), images, schedule, of_config, batch_size, part) for part in parts).mean())

    whole = loss(64, slice(0, 150))
    assert sizes == [64, 64, 22]
    for batch_size in (1, 7, 100, 1000):
        assert loss(batch_size, slice(0, 150)) == pytest.approx(whole, rel=1e-6)
    assert loss(50, slice(0, 37), slice(37, 37), slice(37, 140), slice(140, 150)) == pytest.approx(whole, rel=1e-6)
    assert max(sizes) == 64
