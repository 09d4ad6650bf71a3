"""The networks of other libraries that come nearest to ours.

Each function takes our `[model]` section and the shape of the images, and returns a network with what sets it apart from ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ddpm_cli.engine.build import build_model
from ddpm_cli.errors import RequestError
from ddpm_cli.models.layers import NORM_EPS

if TYPE_CHECKING:
    from ddpm_cli.config.schema import ModelConfig

Shape = tuple[int, int, int]
SMALLDIFFUSION_GROUPS = 32
LUCIDRAINS_BLOCKS = 2


@dataclass(frozen=True)
class Nearest:
    """A peer's network.

    Attributes:
        network: It.
        image_shape: Of its images, see `padded`.
        differences: In what it differs from ours; empty if it is the same function of its weights.
    """

    network: nn.Module
    image_shape: Shape
    differences: tuple[str, ...]


def padded(model: ModelConfig, shape: Shape) -> Shape:
    """The shape of images as our network pads them; peers, which do not pad, are given images of this shape."""
    multiple = model.stem * 2 ** (len(model.channel_mult) - 1)
    channels, height, width = shape
    return channels, -(-height // multiple) * multiple, -(-width // multiple) * multiple


def unet2d(model: ModelConfig, shape: Shape) -> Nearest:
    """`UNet2DModel` of diffusers, which can be the very same network as ours."""
    from diffusers import UNet2DModel

    arguments, differences = unet2d_arguments(model, shape)
    return Nearest(UNet2DModel(**arguments), padded(model, shape), differences)


def unet2d_arguments(model: ModelConfig, shape: Shape) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What `UNet2DModel` is to be called with, and in what it will differ from our network."""
    in_channels, height, width = padded(model, shape)
    attended = _attended(model, height)
    channels = _channels(model)
    head_channels, differing_heads = _head_channels(model, [c for c, yes in zip(channels, attended, strict=True) if yes])
    groups = _norm_groups(model, shape)
    arguments = {
        "sample_size": (height, width),
        "in_channels": in_channels,
        "out_channels": in_channels,
        "block_out_channels": channels,
        "layers_per_block": model.blocks_per_level,
        "down_block_types": ["AttnDownBlock2D" if yes else "DownBlock2D" for yes in attended],
        "up_block_types": ["AttnUpBlock2D" if yes else "UpBlock2D" for yes in reversed(attended)],
        "add_attention": model.middle_attention,
        "attention_head_dim": head_channels,
        "dropout": model.dropout,
        "resnet_time_scale_shift": "scale_shift" if model.scale_shift_norm else "default",
        "norm_num_groups": min(groups),
        "attn_norm_num_groups": min(groups),
        "norm_eps": NORM_EPS,
        "freq_shift": 1,
        "flip_sin_to_cos": False,
    }
    differences = [
        *_stem_difference(model),
        *_label_difference(model),
        *(["padding inside the network"] if (height, width) != shape[1:] else []),
        *(["as many channels before the first level as in it"] if model.channel_mult[0] != 1 else []),
        *([f"{min(groups)} groups in every norm"] if len(groups) > 1 else []),
        *(["as many channels in each head, not as many heads"] if differing_heads else []),
    ]
    return arguments, tuple(differences)


def lucidrains_unet(model: ModelConfig, shape: Shape) -> Nearest:
    """`Unet` of denoising-diffusion-pytorch."""
    from denoising_diffusion_pytorch import Unet

    image_shape = in_channels, height, _ = padded(model, shape)
    network = Unet(
        model.base_channels,
        dim_mults=model.channel_mult,
        channels=in_channels,
        dropout=model.dropout,
        full_attn=tuple(_attended(model, height)),
    )
    blocks = [f"{LUCIDRAINS_BLOCKS} blocks in each level"] if model.blocks_per_level != LUCIDRAINS_BLOCKS else []
    return Nearest(
        network,
        image_shape,
        (
            *_stem_difference(model),
            *_label_difference(model),
            *blocks,
            "linear attention in the levels without attention",
            "RMS norms",
            "first convolution 7x7",
        ),
    )


def smalldiffusion_unet(model: ModelConfig, shape: Shape) -> Nearest:
    """`Unet` of smalldiffusion, scaled as in its own examples.

    Raises:
        RequestError: If the images are not square.
    """
    from smalldiffusion import Scaled, Unet

    image_shape = in_channels, height, width = padded(model, shape)
    if height != width:
        raise RequestError(f"smalldiffusion takes square images alone, not {height}x{width}.", "Leave it out of --against.")
    base = max(1, round(model.base_channels / SMALLDIFFUSION_GROUPS)) * SMALLDIFFUSION_GROUPS
    network = Scaled(Unet)(
        height,
        in_channels,
        in_channels,
        ch=base,
        ch_mult=tuple(model.channel_mult),
        num_res_blocks=model.blocks_per_level,
        attn_resolutions=[height // 2**level for level, yes in enumerate(_attended(model, height)) if yes],
        dropout=model.dropout,
    )
    differences = [
        *_stem_difference(model),
        *_label_difference(model),
        *([f"{base} base channels, for its {SMALLDIFFUSION_GROUPS} groups"] if base != model.base_channels else []),
        *(["attention in the middle"] if not model.middle_attention else []),
        *(["no scale and shift by the embedding"] if model.scale_shift_norm else []),
        "an embedding of log sigma",
    ]
    return Nearest(network, image_shape, tuple(differences))


def _channels(model: ModelConfig) -> list[int]:
    return [model.base_channels * multiple for multiple in model.channel_mult]


def _attended(model: ModelConfig, height: int) -> list[bool]:
    """Whether each level has attention; `height` is that of the padded image."""
    return [height // (model.stem * 2**level) in model.attention_resolutions for level in range(len(model.channel_mult))]


def _norm_groups(model: ModelConfig, shape: Shape) -> set[int]:
    """The numbers of groups of our norms."""
    with torch.device("meta"):
        network = build_model(model, shape)
    return {module.num_groups for module in network.modules() if isinstance(module, nn.GroupNorm)}


def _head_channels(model: ModelConfig, attended: list[int]) -> tuple[int | None, bool]:
    """Channels of each head, None for one head whatever the channels, and whether that differs from our number of heads."""
    if model.attention_heads == 1:
        return None, False
    widths = {*attended, *(_channels(model)[-1:] if model.middle_attention else [])}
    return (min(widths) // model.attention_heads if widths else None), len(widths) > 1


def _stem_difference(model: ModelConfig) -> list[str]:
    return [f"no stem, so {model.stem**2} times the pixels"] if model.stem > 1 else []


def _label_difference(model: ModelConfig) -> list[str]:
    return ["no class labels"] if model.num_classes is not None else []
