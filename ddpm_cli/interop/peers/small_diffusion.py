"""Read the U-Net of smalldiffusion, a state dict and nothing else: `torch.save(model.state_dict(), FILE)`."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddpm_cli.errors import RequestError
from ddpm_cli.interop.peers.flags import OPTION, Flags, check_known, words
from ddpm_cli.interop.peers.peer_model import PeerModel, Weights, contradiction, image_size, inexpressible, missing

if TYPE_CHECKING:
    from torch import Tensor

PROGRAM = "smalldiffusion"
BETAS, SIGMAS = words("beta_start beta_end"), words("sigma_min sigma_max")
SCHEDULES = {
    "ScheduleDDPM": BETAS,
    "ScheduleLDM": BETAS,
    "ScheduleSigmoid": BETAS,
    "ScheduleCosine": words("max_beta"),
    "ScheduleLogLinear": SIGMAS,
}
"""Its classes of schedules, and which arguments beside N each goes by."""
OF_SCHEDULES = frozenset(flag for flags in SCHEDULES.values() for flag in flags)
READ = (*words("N ch ch_mult dropout in_dim num_res_blocks schedule scaled"), *OF_SCHEDULES)
GROUPS, NORM_EPS = 32, 1e-6
USUAL_STEPS = 1000
EMBEDDING = "sig_embed.mlp.0.weight"

_PARTS = (
    (r"^0\.layer1\.0\.", "block.norm_in."),
    (r"^0\.layer1\.2\.", "block.conv_in."),
    (r"^0\.temb_proj\.1\.", "block.project."),
    (r"^0\.layer2\.0\.", "block.norm_out."),
    (r"^0\.layer2\.3\.", "block.conv_out."),
    (r"^0\.shortcut\.", "block.shortcut."),
    (r"^1\.norm\.", "attention.norm."),
)


def is_small_diffusion(weights: Weights) -> bool:
    """Tell whether the names are those of its U-Net."""
    return EMBEDDING in weights and "conv_in.weight" in weights


def read_small_diffusion(weights: Weights, flags: Flags, size: tuple[int, int] | None, file: Path) -> PeerModel:
    """Read a U-Net with the arguments that it and its schedule were made with, as flags.

    Args:
        weights: By its own names.
        flags: The arguments: --schedule is the schedule's class, --scaled says whether the network is Scaled(Unet).
        size: Height and width of its images, instead of --in_dim.
        file: That holds it.
    Raises:
        RequestError: If ours cannot be that network, if a flag is missing, or if one does not fit the weights.
    """
    check_known(flags, PROGRAM, READ, ())
    size = image_size(size, flags.count("in_dim"))
    schedule, steps, scaled = flags.text("schedule", SCHEDULES), flags.count("N"), flags.truth("scaled")
    needs = {
        "in_dim 28": ("the size of the images", size is None),
        "schedule ScheduleDDPM": (f"the class of its schedule, {' or '.join(SCHEDULES)}", schedule is None),
        "N 1000": ("the number of noise levels", steps is None),
        "scaled True": ("whether the network is Scaled(Unet)", scaled is None),
    }
    if any(lacks for _, lacks in needs.values()):
        raise missing(PROGRAM, {flag: what for flag, (what, lacks) in needs.items() if lacks})
    assert size is not None
    assert steps is not None
    assert schedule is not None
    if any(name.startswith("cond_embed.") for name in weights):
        raise inexpressible(PROGRAM, ["its labels pass through a layer of their own (cond_embed)"])
    if not scaled:
        raise inexpressible(PROGRAM, ["it reads x_0 + sigma * eps as it is, which is scaled to variance 1 here (Scaled(Unet) is)"])
    levels, blocks = _count(weights, r"downs\.(\d+)\."), _count(weights, r"downs\.0\.blocks\.(\d+)\.")
    base = weights["conv_in.weight"].shape[0]
    channels = [weights[f"downs.{level}.blocks.0.0.layer1.2.weight"].shape[0] for level in range(levels)]
    mult = [count // base for count in channels]
    width = weights[EMBEDDING].shape
    if any(count % base for count in channels) or tuple(width) != (4 * base, 2):
        raise inexpressible(PROGRAM, [f"its embedding of sigma has the shape {tuple(width)}, which is {(4 * base, 2)} here"])
    for name, said, is_so in (
        ("ch", flags.count("ch"), base),
        ("ch_mult", flags.counts("ch_mult"), mult),
        ("num_res_blocks", flags.count("num_res_blocks"), blocks),
    ):
        if said is not None and said != is_so:
            raise contradiction(name, said, f"a network of {name} {is_so}")
    attended = [level for level in range(levels) if f"downs.{level}.blocks.0.1.attn.qkv.weight" in weights]
    settings = {
        "model.base_channels": base,
        "model.channel_mult": mult,
        "model.blocks_per_level": blocks,
        "model.attention_resolutions": [size[0] // 2**level for level in attended],
        "model.middle_attention": True,
        "model.dropout": flags.number("dropout") or 0.0,
        "model.norm_groups": GROUPS,
        "model.norm_eps": NORM_EPS,
        "model.stem": 1,
        "model.downsample_padding": "asymmetric",
        "model.time_frequencies": "transformer",
        "model.time_channels": 2,
        "model.time_scale": 0.5,
        "schedule.timesteps": steps,
        **_schedule(schedule, steps, flags),
        "objective.parameterization.kind": "eps",
        "objective.parameterization.level_input": "log-sigma",
        "sample.sampler.kind": "ddim",
        "sample.threshold.kind": "none",
    }
    images = weights["conv_in.weight"].shape[1]
    told = (
        "Its own sampler stops at the first level of the table and starts at noise alone; here x_T has variance 1, and images end "
        "without noise.",
    )
    return PeerModel((file,), settings, (images, *size), _renamed(weights), told)


def _schedule(name: str, steps: int, flags: Flags) -> dict[str, Any]:
    """The schedule in our words; betas are not scaled by 1000 / T there."""
    _refuse_idle(name, flags)
    if name == "ScheduleLogLinear":
        low, high = flags.number_or("sigma_min", 0.02), flags.number_or("sigma_max", 10.0)
        if not 0 < low < high:
            raise inexpressible(PROGRAM, [f"sigma goes from {low:g} to {high:g}"])
        alpha_bar = 1 / (1 + np.logspace(math.log10(low), math.log10(high), steps) ** 2)
        return {"schedule.kind": "table", "schedule.betas": (1 - alpha_bar / np.append(1.0, alpha_bar[:-1])).tolist()}
    if name == "ScheduleCosine":
        return {"schedule.kind": "cosine", "schedule.max_beta": flags.number_or("max_beta", 0.999)}
    kind, start, end = {
        "ScheduleDDPM": ("linear", 1e-4, 0.02),
        "ScheduleLDM": ("scaled-linear", 0.00085, 0.012),
        "ScheduleSigmoid": ("sigmoid", 1e-4, 0.02),
    }[name]
    scale = steps / USUAL_STEPS
    start, end = flags.number_or("beta_start", start), flags.number_or("beta_end", end)
    return {"schedule.kind": kind, "schedule.beta_start": start * scale, "schedule.beta_end": end * scale}


def _refuse_idle(schedule: str, flags: Flags) -> None:
    """Refuse the arguments of another schedule: one of the two is not what the model was trained with."""
    fitting = SCHEDULES[schedule]
    if idle := [name for name in flags.given if name in OF_SCHEDULES and name not in fitting]:
        raise RequestError(
            f"{OPTION} names {' and '.join('--' + name for name in idle)}, which {schedule} has no use for.",
            f"Leave that out; to {schedule} go --N and {' and '.join('--' + name for name in fitting)}.",
        )


def _count(weights: Weights, pattern: str) -> int:
    return len({match[1] for name in weights if (match := re.match(pattern, name))})


def _renamed(weights: Weights) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    for name, weight in weights.items():
        place, rest = _place(name)
        if rest.startswith("1.attn.qkv."):
            for ours, part in zip(("query", "key", "value"), weight.chunk(3), strict=True):
                result[f"{place}.attention.{ours}.weight"] = part
                result[f"{place}.attention.{ours}.bias"] = part.new_zeros(part.shape[0])
        elif rest == "1.proj_out.weight":
            # Two linear layers follow each other there, which are one: P (A x + a) + p = (P A) x + (P a + p).
            outer, within = weight.flatten(1).double(), f"{name.removesuffix('proj_out.weight')}attn.proj"
            inner, offset = weights[f"{within}.weight"].double(), weights[f"{within}.bias"].double()
            bias = outer @ offset + weights[f"{name.removesuffix('weight')}bias"].double()
            result |= {f"{place}.attention.project.weight": (outer @ inner).float()}
            result |= {f"{place}.attention.project.bias": bias.float()}
        elif not rest.startswith(("1.attn.proj.", "1.proj_out.")):
            result[_own(place, rest)] = weight
    return result


def _place(name: str) -> tuple[str, str]:
    """Where a weight of a stage belongs in our network, and the rest of its name; of others an empty place."""
    if match := re.match(r"(down|up)s\.(\d+)\.blocks\.(\d+)\.(.*)", name):
        return f"{match[1]}.{match[2]}.stages.{match[3]}", match[4]
    if match := re.match(r"mid\.([01])\.(.*)", name):
        return "middle_in", f"{match[1]}.{match[2]}"
    if match := re.match(r"mid\.2\.(.*)", name):
        return "middle_out", f"0.{match[1]}"
    return "", name


def _own(place: str, rest: str) -> str:
    for pattern, ours in _PARTS:
        rest = re.sub(pattern, ours, rest) if place else rest
    if place:
        return f"{place}.{rest}"
    for pattern, ours in (
        (r"^sig_embed\.mlp\.", "time_embedding.mlp."),
        (r"^out_layer\.0\.", "norm_out."),
        (r"^out_layer\.2\.", "conv_out."),
        (r"^downs\.(\d+)\.downsample\.1\.", r"down.\1.downsample.conv."),
        (r"^ups\.(\d+)\.upsample\.1\.", r"up.\1.upsample.conv."),
    ):
        rest = re.sub(pattern, ours, rest)
    return rest
