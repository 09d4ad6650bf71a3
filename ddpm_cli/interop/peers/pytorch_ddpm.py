"""Read a checkpoint of pytorch-ddpm (w86763777), the program of Ho et al. 2020 in torch for CIFAR-10."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ddpm_cli.interop.peers.flags import Flags, check_known, words
from ddpm_cli.interop.peers.peer_model import (
    PeerModel,
    Weights,
    contradiction,
    image_size,
    inexpressible,
    missing,
    sines_first,
)
from ddpm_cli.models.embeddings import sinusoidal_embedding

if TYPE_CHECKING:
    from torch import Tensor

PROGRAM = "pytorch-ddpm"
READ = words("T attn beta_1 beta_T ch ch_mult dropout img_size mean_type num_res_blocks var_type")
WITHOUT_EFFECT = words(
    "batch_size ema_decay eval eval_step fid_cache fid_use_torch flagfile grad_clip logdir lr num_images "
    "num_workers parallel sample_size sample_step save_step total_steps train warmup"
)
GROUPS, NORM_EPS = 32, 1e-5
BETAS = (1e-4, 0.02)
VARIANCES = {"fixedlarge": "fixed-large", "fixedsmall": "fixed-small"}
USUAL_STEPS = 1000
NOISE = "x_T"
TABLE = "time_embedding.timembedding.0.weight"
TABLE_TOLERANCE = 1e-3
"""Of sines and cosines: float32 phases near T are good to that."""

_PARTS = (
    ("block1.0", "block.norm_in"),
    ("block1.2", "block.conv_in"),
    ("temb_proj.1", "block.project"),
    ("block2.0", "block.norm_out"),
    ("block2.3", "block.conv_out"),
    ("shortcut", "block.shortcut"),
    ("attn.group_norm", "attention.norm"),
    ("attn.proj_q", "attention.query"),
    ("attn.proj_k", "attention.key"),
    ("attn.proj_v", "attention.value"),
    ("attn.proj", "attention.project"),
)


def is_pytorch_ddpm(weights: Weights) -> bool:
    """Tell whether the names are those of its network."""
    return TABLE in weights and "head.weight" in weights


def read_pytorch_ddpm(
    weights: Weights, flags: Flags, size: tuple[int, int] | None, file: Path, noise: Tensor | None = None
) -> PeerModel:
    """Read a network with the flags that it was trained with.

    Args:
        weights: By its own names.
        flags: Of the program, those of its flagfile.txt for example.
        size: Height and width of its images, where nothing else says it.
        file: That holds it.
        noise: The file's x_T, whose shape is that of its images.
    Raises:
        RequestError: If ours cannot be that network, if a flag is missing, or if one does not fit the weights.
    """
    check_known(flags, PROGRAM, READ, WITHOUT_EFFECT)
    size = image_size(size, flags.count("img_size"))
    if noise is not None and noise.ndim == 4:
        size = size or (noise.shape[2], noise.shape[3])
    if size is None:
        raise missing(PROGRAM, {"img_size 32": "the size of the images"})
    downs, ups = _kinds(weights, "downblocks"), _kinds(weights, "upblocks")
    levels = downs.count("sample") + 1
    blocks = (len(downs) - levels + 1) // levels
    expected = [*[*["block"] * blocks, "sample"] * levels][:-1]
    if blocks < 1 or downs != expected or len(ups) != levels * (blocks + 2) - 1:
        raise inexpressible(PROGRAM, [f"its {len(downs)} layers down and {len(ups)} layers up make no {levels} levels"])
    starts = [level * (blocks + 1) for level in range(levels)]
    base = weights["head.weight"].shape[0]
    steps = weights[TABLE].shape[0]
    mult = [weights[f"downblocks.{place}.block1.2.weight"].shape[0] / base for place in starts]
    attended = [level for level, place in enumerate(starts) if f"downblocks.{place}.attn.proj.weight" in weights]
    _check(weights, flags, {"T": steps, "ch": base, "num_res_blocks": blocks, "ch_mult": mult, "attn": attended})
    first, last = (flags.number_or(name, usual) for name, usual in zip(("beta_1", "beta_T"), BETAS, strict=True))
    settings = {
        "model.base_channels": base,
        "model.channel_mult": [int(multiple) for multiple in mult],
        "model.blocks_per_level": blocks,
        "model.attention_resolutions": [size[0] // 2**level for level in attended],
        "model.middle_attention": True,
        "model.dropout": flags.number("dropout") or 0.0,
        "model.norm_groups": GROUPS,
        "model.norm_eps": NORM_EPS,
        "model.stem": 1,
        "model.time_frequencies": "transformer",
        "schedule.kind": "linear",
        "schedule.timesteps": steps,
        "schedule.beta_start": first * steps / USUAL_STEPS,  # ours are given for T = 1000, and scaled
        "schedule.beta_end": last * steps / USUAL_STEPS,
        "objective.parameterization.kind": "eps",
        "sample.sampler.kind": "ddpm",
        "sample.sampler.variance": VARIANCES[flags.text("var_type", VARIANCES) or "fixedlarge"],
        "sample.threshold.kind": "none",
    }
    told = []
    if not {"beta_1", "beta_T"} & flags.given.keys():
        told = [f"Its betas were taken to go from {BETAS[0]:g} to {BETAS[1]:g}, as they do there without --beta_1 and --beta_T."]
    return PeerModel((file,), settings, (weights["head.weight"].shape[1], *size), _renamed(weights, levels, blocks), tuple(told))


def _kinds(weights: Weights, group: str) -> list[str]:
    """What each layer of a group is: a residual block, or one that halves or doubles."""
    places = {int(match[1]) for name in weights if (match := re.match(rf"{group}\.(\d{{1,6}})\.", name))}
    return ["sample" if f"{group}.{place}.main.weight" in weights else "block" for place in sorted(places)]


def _check(weights: Weights, flags: Flags, found: Mapping[str, object]) -> None:
    """Refuse flags that do not fit the weights, and a time embedding that is none of its program."""
    for name, is_so in found.items():
        said = flags.counts(name) if isinstance(is_so, list) else flags.count(name)
        if said is not None and said != is_so:
            raise contradiction(name, said, f"a network of {name} {is_so}")
    if flags.text("mean_type") not in (None, "epsilon"):
        raise inexpressible(PROGRAM, [f"its mean_type is {flags.text('mean_type')}, for which the program has no training"])
    table = weights[TABLE]
    steps = torch.arange(table.shape[0])
    wanted = sinusoidal_embedding(steps, table.shape[1], "transformer")
    half = table.shape[1] // 2
    if not torch.allclose(table[:, 0::2].float(), wanted[:, :half], rtol=0, atol=TABLE_TOLERANCE) or table.shape[1] % 2:
        raise inexpressible(PROGRAM, [f"its table of the time embedding ({TABLE}) has other sines than the program's"])


def _renamed(weights: Weights, levels: int, blocks: int) -> dict[str, Tensor]:
    places = {
        "time_embedding.timembedding.1": "time_embedding.mlp.0",
        "time_embedding.timembedding.3": "time_embedding.mlp.2",
        "head": "conv_in",
        "tail.0": "norm_out",
        "tail.2": "conv_out",
    }
    places |= _of_stage("middleblocks.0", "middle_in") | _of_stage("middleblocks.1", "middle_out")
    for level in range(levels):
        for block in range(blocks):
            places |= _of_stage(f"downblocks.{level * (blocks + 1) + block}", f"down.{level}.stages.{block}")
        for block in range(blocks + 1):
            places |= _of_stage(f"upblocks.{level * (blocks + 2) + block}", f"up.{level}.stages.{block}")
        places[f"downblocks.{level * (blocks + 1) + blocks}.main"] = f"down.{level}.downsample.conv"
        places[f"upblocks.{level * (blocks + 2) + blocks + 1}.main"] = f"up.{level}.upsample.conv"
    result = {}
    for name, weight in weights.items():
        if name == TABLE:
            continue
        layer, _, kind = name.rpartition(".")
        ours = f"{places.get(layer, layer)}.{kind}"
        of_pixels = ".attn.proj" in name and kind == "weight"
        result[ours] = weight.flatten(1) if of_pixels else weight
    first = "time_embedding.mlp.0.weight"
    result[first] = sines_first(result[first], interleaved=True)
    return result


def _of_stage(theirs: str, ours: str) -> dict[str, str]:
    return {f"{theirs}.{part}": f"{ours}.{own}" for part, own in _PARTS}
