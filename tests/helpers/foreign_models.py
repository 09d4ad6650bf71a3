"""Models of other programs, small or with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ddpm_cli.metrics.inception import blank_network

GOOGLE = {  # google/ddpm-cifar10-32, with fewer channels
    "sample_size": 16,
    "block_out_channels": (16, 32, 32),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 16,
    "attention_head_dim": None,
}


def pipeline_folder(folder: Path, unet: dict[str, Any], **scheduler: Any) -> Path:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    network = UNet2DModel(**unet)
    draws = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=draws)
    DDPMPipeline(unet=network, scheduler=DDPMScheduler(**scheduler)).save_pretrained(folder)
    return folder


def random_weights(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """A random network whose normalisations fit images, so that its features differ from one image to the next."""
    torch.manual_seed(0)
    network = blank_network()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            module.train()
    with torch.no_grad():
        network(images.expand(-1, 3, -1, -1))
        network.fc.weight *= 20  # or every image would have the same classes
    return {name: tensor.contiguous() for name, tensor in network.eval().state_dict().items()}
