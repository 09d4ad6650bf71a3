from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ddpm_cli.models.unet import UNet

MakeUnet = Callable[..., UNet]


@pytest.fixture
def make_unet() -> MakeUnet:
    """Build a small U-Net; `randomise` replaces the zeros that new networks have, so that every part matters."""

    def make(*, randomise: bool = True, **changes: Any) -> UNet:
        options: dict[str, Any] = {
            "in_channels": 1,
            "image_size": (8, 8),
            "base_channels": 8,
            "channel_mult": (1, 2),
            "blocks_per_level": 1,
            "attention_resolutions": (),
            "attention_heads": 1,
            "middle_attention": True,
            "dropout": 0.0,
            "scale_shift_norm": False,
            "norm_groups": 4,
            "stem": 1,
        }
        torch.manual_seed(0)
        network = UNet(**{**options, **changes})
        if randomise:
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter += 0.2 * torch.randn_like(parameter)
        return network.eval()

    return make
