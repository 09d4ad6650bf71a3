"""Say our transformer in the words of diffusers: `DiTTransformer2DModel`, and its weights by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from ddpm_cli.models.layers import NORM_EPS

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm_cli.config.schema.model import DitConfig

MLP_RATIO = 4
ONE_CLASS = 1
"""It has a table of classes always; without labels all images are of its only one, whose vector is 0."""
AUGMENTATION = "augmentation_embedding."
_NAMES = (
    (r"^patch_in", "pos_embed.proj"),
    (r"^modulation_out", "proj_out_1"),
    (r"^linear_out", "proj_out_2"),
    (r"^blocks\.", "transformer_blocks."),
    (r"\.modulation\.", ".norm1.linear."),
    (r"\.attention\.(query|key|value)\.", lambda match: f".attn1.to_{match[1][0]}."),
    (r"\.attention\.project\.", ".attn1.to_out.0."),
    (r"\.perceptron\.expand\.", ".ff.net.0.proj."),
    (r"\.perceptron\.project\.", ".ff.net.2."),
)
_OF_EMBEDDING = {
    "time_embedding.mlp.0.": "timestep_embedder.linear_1.",
    "time_embedding.mlp.2.": "timestep_embedder.linear_2.",
    "label_embedding.": "class_embedder.embedding_table.",
}


def dit_arguments(model: DitConfig, shape: tuple[int, int, int]) -> dict[str, Any]:
    """List what `DiTTransformer2DModel` is called with to be the network of a `[model]` section, or what comes nearest to it.

    Args:
        model: The section, its number of classes known.
        shape: Channels, height and width of the images.
    """
    channels, height, _ = shape
    return {
        "sample_size": height,
        "in_channels": channels,
        "out_channels": channels,
        "patch_size": model.patch_size,
        "num_layers": model.depth,
        "num_attention_heads": model.heads,
        "attention_head_dim": model.width // model.heads,
        "dropout": model.dropout,
        "num_embeds_ada_norm": model.num_classes or ONE_CLASS,
        "norm_eps": NORM_EPS,
    }


def dit_faults(model: DitConfig, shape: tuple[int, int, int]) -> dict[str, bool]:
    """List what sets `DiTTransformer2DModel` apart from other networks of this kind, and whether it does so here."""
    _, height, width = shape
    return {
        f"its transformer takes square images alone, not {height}x{width}": height != width,
        f"its perceptrons are {MLP_RATIO} times as wide as the tokens (model.mlp_ratio = {model.mlp_ratio:g})": (
            model.mlp_ratio != MLP_RATIO
        ),
        f"its transformer has no registers (model.registers = {model.registers})": model.registers > 0,
    }


def to_dit(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring the weights of our transformer to the names and orders of `DiTTransformer2DModel`.

    Its time embedding has cosines before sines, its last layer writes the pixels of a patch in the order of their places and then
    their channels, and each of its blocks has the embedding of noise level and class of its own, here all the same.

    Args:
        weights: By our names; what reads the vector of an augmentation is left out, as a sample is not augmented.
    """
    of_embedding = {f"norm1.emb.{name}": weight for name, weight in _embedding(weights).items()}
    inner = {name: weight for name, weight in weights.items() if not name.startswith((*_OF_EMBEDDING, AUGMENTATION))}
    found = {_renamed(name): weight for name, weight in inner.items()}
    pixels = weights["patch_in.weight"][0, 0].numel()
    for name in ("proj_out_2.weight", "proj_out_2.bias"):
        weight = found[name]
        found[name] = weight.reshape(-1, pixels, *weight.shape[1:]).transpose(0, 1).flatten(0, 1)
    depth = 1 + max(int(name.split(".")[1]) for name in inner if name.startswith("blocks."))
    return found | {f"transformer_blocks.{n}.{name}": weight for n in range(depth) for name, weight in of_embedding.items()}


def _embedding(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {
        theirs + name.removeprefix(ours): weight
        for ours, theirs in _OF_EMBEDDING.items()
        for name, weight in weights.items()
        if name.startswith(ours)
    }
    reads = "timestep_embedder.linear_1.weight"
    found[reads] = torch.cat(found[reads].chunk(2, dim=1)[::-1], dim=1)
    table = "class_embedder.embedding_table.weight"
    return found if table in found else found | {table: found[reads].new_zeros(ONE_CLASS + 1, len(found[reads]))}


def _renamed(name: str) -> str:
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name
