"""Rename weights of our U-Net to the names of diffusers' `UNet2DModel`, and back. Both hold the same tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_FIRST_LINEAR = "time_embedding.mlp.0.weight"
_OF_AUGMENTATION = "augmentation_embedding.weight"
_PLACES = (
    (r"^time_embedding\.mlp\.0\.", "time_embedding.linear_1."),
    (r"^time_embedding\.mlp\.2\.", "time_embedding.linear_2."),
    (r"^norm_out\.", "conv_norm_out."),
    (r"^middle_in\.block\.", "mid_block.resnets.0."),
    (r"^middle_in\.attention\.", "mid_block.attentions.0."),
    (r"^middle_out\.block\.", "mid_block.resnets.1."),
    (r"^(down|up)\.(\d+)\.stages\.(\d+)\.block\.", r"\1_blocks.\2.resnets.\3."),
    (r"^(down|up)\.(\d+)\.stages\.(\d+)\.attention\.", r"\1_blocks.\2.attentions.\3."),
    (r"^down\.(\d+)\.downsample\.", r"down_blocks.\1.downsamplers.0."),
    (r"^up\.(\d+)\.upsample\.", r"up_blocks.\1.upsamplers.0."),
)
_PARTS = (
    (r"(\.resnets\.\d+)\.norm_in\.", r"\1.norm1."),
    (r"(\.resnets\.\d+)\.conv_in\.", r"\1.conv1."),
    (r"(\.resnets\.\d+)\.project\.", r"\1.time_emb_proj."),
    (r"(\.resnets\.\d+)\.norm_out\.", r"\1.norm2."),
    (r"(\.resnets\.\d+)\.conv_out\.", r"\1.conv2."),
    (r"(\.resnets\.\d+)\.shortcut\.", r"\1.conv_shortcut."),
    (r"(\.attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"(\.attentions\.\d+)\.query\.", r"\1.to_q."),
    (r"(\.attentions\.\d+)\.key\.", r"\1.to_k."),
    (r"(\.attentions\.\d+)\.value\.", r"\1.to_v."),
    (r"(\.attentions\.\d+)\.project\.", r"\1.to_out.0."),
)
_FORMER = (  # of attention, before diffusers 0.15; google/ddpm-cifar10-32 still has them
    (r"(\.attentions\.\d+)\.query\.", r"\1.to_q."),
    (r"(\.attentions\.\d+)\.key\.", r"\1.to_k."),
    (r"(\.attentions\.\d+)\.value\.", r"\1.to_v."),
    (r"(\.attentions\.\d+)\.proj_attn\.", r"\1.to_out.0."),
)
_LINEAR = re.compile(r"\.(to_q|to_k|to_v|to_out\.0)\.weight$")


def to_unet2d(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename our weights to diffusers' names; its attention has linear layers, [C, C].

    It is told of no augmentation, and of images as they are ours knows nothing by those weights: the vector is 0.
    """
    renamed = {_renamed(name, _PLACES + _PARTS): weight for name, weight in weights.items() if name != _OF_AUGMENTATION}
    return {name: weight.flatten(1) if _LINEAR.search(name) else weight for name, weight in renamed.items()}


def from_unet2d(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, cosines_first: bool) -> dict[str, Tensor]:
    """Rename diffusers' weights to our names.

    Args:
        weights: Theirs, not checked.
        expected: Ours by name, of which the shapes alone count. A name that has no counterpart is missing in the result, and
            what has none on our side keeps its own name.
        cosines_first: Whether their time embedding has cosines before sines (`flip_sin_to_cos`); ours has sines first.
    """
    found = {_renamed(name, _FORMER): weight for name, weight in weights.items()}
    ours = {_renamed(name, _PLACES + _PARTS): name for name in expected}
    renamed = {ours.get(name, name): weight for name, weight in found.items()}
    fitted = {name: _without_ones(weight, expected[name]) if name in expected else weight for name, weight in renamed.items()}
    first = fitted.get(_FIRST_LINEAR)
    if cosines_first and first is not None and first.ndim == 2:
        fitted[_FIRST_LINEAR] = _sines_first(first)
    return fitted


def _without_ones(weight: Tensor, expected: Tensor) -> Tensor:
    """A linear layer and a convolution of one pixel have the same weights, in another shape."""
    shape, wanted = list(weight.shape), list(expected.shape)
    while shape and shape[-1] == 1:
        shape.pop()
    while wanted and wanted[-1] == 1:
        wanted.pop()
    return weight.reshape(expected.shape) if shape == wanted else weight


def _sines_first(weight: Tensor) -> Tensor:
    half = weight.shape[1] // 2
    return torch.cat([weight[:, half : 2 * half], weight[:, :half], weight[:, 2 * half :]], dim=1)


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
