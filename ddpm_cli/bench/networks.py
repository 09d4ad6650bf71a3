"""Build the networks of other libraries that come nearest to ours.

Each function takes our `[model]` section and the shape of the images, and returns a network with what sets it apart from ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ddpm_cli.errors import RequestError
from ddpm_cli.interop.diffusers.config import attended_levels, has_uneven_heads, norm_groups, unet2d_arguments
from ddpm_cli.interop.diffusers.dit import MLP_RATIO, dit_arguments

if TYPE_CHECKING:
    from ddpm_cli.config.schema.model import DitConfig, NetworkBase, UNetConfig

Shape = tuple[int, int, int]
SMALLDIFFUSION_GROUPS = 32
LUCIDRAINS_BLOCKS = 2


@dataclass(frozen=True)
class Nearest:
    """Hold a peer's network.

    Attributes:
        network: It.
        image_shape: Of its images, see `padded`.
        differences: In what it differs from ours; empty if it is the same function of its weights.
    """

    network: nn.Module
    image_shape: Shape
    differences: tuple[str, ...]


class OneResult(nn.Module):
    """Call a network of diffusers as our network without labels is.

    Args:
        network: It.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Map x [B, C, H, W] and noise levels t [B] to a prediction, [B, C, H, W]."""
        result: Tensor
        (result,) = self.network(x, t, return_dict=False)
        return result


def padded(model: UNetConfig, shape: Shape) -> Shape:
    """Tell the shape of images as our network pads them; peers, which do not pad, are given images of this shape."""
    multiple = model.stem * 2 ** (len(model.channel_mult) - 1)
    channels, height, width = shape
    return channels, -(-height // multiple) * multiple, -(-width // multiple) * multiple


def unet2d(model: UNetConfig, shape: Shape) -> Nearest:
    """Build `UNet2DModel` of diffusers, which can be the very same network as ours."""
    from diffusers import UNet2DModel

    image_shape = padded(model, shape)
    return Nearest(UNet2DModel(**unet2d_arguments(model, image_shape)), image_shape, _unet2d_differences(model, shape))


def lucidrains_unet(model: UNetConfig, shape: Shape) -> Nearest:
    """Build `Unet` of denoising-diffusion-pytorch."""
    from denoising_diffusion_pytorch import Unet

    image_shape = in_channels, height, _ = padded(model, shape)
    network = Unet(
        model.base_channels,
        dim_mults=model.channel_mult,
        channels=in_channels,
        dropout=model.dropout,
        full_attn=tuple(attended_levels(model, height)),
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


def smalldiffusion_unet(model: UNetConfig, shape: Shape) -> Nearest:
    """Build `Unet` of smalldiffusion, scaled as in its own examples.

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
        attn_resolutions=[height // 2**level for level, yes in enumerate(attended_levels(model, height)) if yes],
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


def dit2d(model: DitConfig, shape: Shape) -> Nearest:
    """Build `DiTTransformer2DModel` of diffusers, which can be the very same network as ours.

    It is called without labels. Its blocks share one embedding of the noise level, as in the paper, and drop no labels.

    Raises:
        RequestError: If the images are not square.
    """
    from diffusers import DiTTransformer2DModel

    if shape[1] != shape[2]:
        raise RequestError(
            f"The transformer of diffusers takes square images alone, not {shape[1]}x{shape[2]}.", "Leave it out of --against."
        )

    class OfImages(DiTTransformer2DModel):  # type: ignore[misc]  # diffusers has no types
        def forward(self, x: Tensor, t: Tensor, return_dict: bool = True) -> Any:
            levels, labels = (
                torch.as_tensor(t, device=x.device).expand(len(x)),
                torch.zeros(len(x), dtype=torch.int64, device=x.device),
            )
            return super().forward(x, levels, labels, return_dict=return_dict)

    network = OfImages(**dit_arguments(model.model_copy(update={"num_classes": None}), shape))
    embedding = network.transformer_blocks[0].norm1.emb
    embedding.class_embedder.dropout_prob = 0.0
    nn.init.zeros_(embedding.class_embedder.embedding_table.weight).requires_grad_(False)
    for block in network.transformer_blocks:
        block.norm1.emb = embedding
    return Nearest(network, shape, tuple(_dit_differences(model)))


def _dit_differences(model: DitConfig) -> list[str]:
    return [
        *_label_difference(model),
        *([f"perceptrons {MLP_RATIO} times as wide as the tokens"] if model.mlp_ratio != MLP_RATIO else []),
        *(["no registers"] if model.registers else []),
    ]


def _unet2d_differences(model: UNetConfig, shape: Shape) -> tuple[str, ...]:
    _, height, width = padded(model, shape)
    groups = norm_groups(model, shape)
    return (
        *_stem_difference(model),
        *_label_difference(model),
        *(["padding inside the network"] if (height, width) != shape[1:] else []),
        *(["as many channels before the first level as in it"] if model.channel_mult[0] != 1 else []),
        *([f"{min(groups)} groups in every norm"] if len(groups) > 1 else []),
        *(["as many channels in each head, not as many heads"] if has_uneven_heads(model, height) else []),
    )


def _stem_difference(model: UNetConfig) -> list[str]:
    return [f"no stem, so {model.stem**2} times the pixels"] if model.stem > 1 else []


def _label_difference(model: NetworkBase) -> list[str]:
    return ["no class labels"] if model.num_classes is not None else []
