"""Read a network of improved-diffusion or guided-diffusion, whose files hold weights and nothing else.

Both name their layers alike (Nichol & Dhariwal 2021; Dhariwal & Nichol 2021). Widths, levels, attention, conditioning and a learned
variance follow from the shapes; the number of heads, the schedule and the size of the images do not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from torch import Tensor

PROGRAM = "improved-diffusion or guided-diffusion"
READ = words(
    "attention_resolutions channel_mult class_cond diffusion_steps dropout image_size learn_sigma noise_schedule "
    "num_channels num_head_channels num_heads num_heads_upsample num_res_blocks predict_xstart rescale_timesteps "
    "resblock_updown sigma_small timestep_respacing use_new_attention_order use_scale_shift_norm"
)
WITHOUT_EFFECT = words(
    "anneal_lr batch_size classifier_scale clip_denoised data_dir ema_rate fp16_scale_growth log_interval lr "
    "lr_anneal_steps microbatch model_path num_samples rescale_learned_sigmas resume_checkpoint save_interval "
    "schedule_sampler use_checkpoint use_ddim use_fp16 use_kl weight_decay"
)
GROUPS, NORM_EPS = 32, 1e-5
USUAL_STEPS = 1000

_BLOCK = (
    (r"^in_layers\.0\.", "norm_in."),
    (r"^in_layers\.2\.", "conv_in."),
    (r"^emb_layers\.1\.", "project."),
    (r"^out_layers\.0\.", "norm_out."),
    (r"^out_layers\.3\.", "conv_out."),
    (r"^skip_connection\.", "shortcut."),
)


@dataclass(frozen=True)
class Structure:
    """Hold what the names and shapes of the weights say.

    Attributes:
        base: Channels of the time embedding's sines and cosines, and of the first convolution.
        channels: Of each level.
        blocks: Residual blocks in each level on the way down.
        attended: Whether each level has attention.
        residual: Whether residual blocks halve and double.
        scale_shift: Whether the time embedding scales and shifts.
        images: Channels of an image.
        learned: Whether the network learned the variance.
        classes: Number of its classes; None without.
    """

    base: int
    channels: tuple[int, ...]
    blocks: int
    attended: tuple[bool, ...]
    residual: bool
    scale_shift: bool
    images: int
    learned: bool
    classes: int | None


def is_openai(weights: Weights) -> bool:
    """Tell whether the names are those of these programs."""
    return "time_embed.0.weight" in weights and "input_blocks.0.0.weight" in weights


def read_openai(weights: Weights, flags: Flags, size: tuple[int, int] | None, file: Path) -> PeerModel:
    """Read a network with the flags that it was trained with.

    Args:
        weights: By its own names.
        flags: Of the program.
        size: Height and width of its images, instead of --image_size.
        file: That holds it.
    Raises:
        RequestError: If ours cannot be that network, if a flag is missing, or if one does not fit the weights.
    """
    check_known(flags, PROGRAM, READ, WITHOUT_EFFECT)
    found = _structure(weights, flags)
    size = image_size(size, flags.count("image_size"))
    _check_flags(found, flags, size)
    steps, schedule = flags.count("diffusion_steps"), flags.text("noise_schedule", ("linear", "cosine"))
    heads, width = flags.count("num_heads"), flags.count("num_head_channels")
    rescaled = flags.truth("rescale_timesteps")
    needs = {
        "image_size 64": ("the size of the images", size is None),
        "num_heads 4": (
            "the number of attention heads, or the channels of each, num_head_channels",
            heads is None and width is None,
        ),
        "diffusion_steps 1000": ("the number of noise levels", steps is None),
        "noise_schedule linear": ("the schedule, linear or cosine", schedule is None),
        "rescale_timesteps True": (
            "whether steps are brought to the range of 1000, as improved-diffusion does unless told otherwise",
            steps not in (None, USUAL_STEPS) and rescaled is None,
        ),
    }
    if any(lacks for _, lacks in needs.values()):
        raise missing(PROGRAM, {flag: what for flag, (what, lacks) in needs.items() if lacks})
    assert size is not None
    assert steps is not None
    _check_heads(weights, "num_heads" if width is None else "num_head_channels", width or heads or 1)
    settings = {
        "model.base_channels": found.base,
        "model.channel_mult": [count // found.base for count in found.channels],
        "model.blocks_per_level": found.blocks,
        "model.attention_resolutions": [size[0] // 2**level for level, yes in enumerate(found.attended) if yes],
        "model.attention_heads": heads if width is None else 1,
        "model.middle_attention": True,
        "model.dropout": flags.number("dropout") or 0.0,
        "model.scale_shift_norm": found.scale_shift,
        "model.norm_groups": GROUPS,
        "model.norm_eps": NORM_EPS,
        "model.stem": 1,
        "model.resampling": "residual" if found.residual else "convolution",
        "model.time_frequencies": "transformer",
        "model.time_scale": USUAL_STEPS / steps if rescaled else 1.0,
        "schedule.kind": schedule,
        "schedule.timesteps": steps,
        "objective.parameterization.kind": "x0" if flags.truth("predict_xstart") else "eps",
        "objective.loss.kind": "hybrid" if found.learned else "simple",
        **_sampling(found, flags),
    }
    settings |= {} if width is None else {"model.attention_head_channels": width}
    settings |= {} if found.classes is None else {"model.num_classes": found.classes}
    split_first = not flags.truth("use_new_attention_order")
    renamed = _renamed(weights, found, lambda channels: (heads or 1) if width is None else channels // width, split_first)
    return PeerModel((file,), settings, (found.images, *size), renamed, tuple(_differences(found, flags)))


def _sampling(found: Structure, flags: Flags) -> dict[str, Any]:
    """Ancestral sampling with clipped images, of which DDIM derives the noise anew, as both programs do."""
    fixed = "fixed-small" if flags.truth("sigma_small") else "fixed-large"
    settings: dict[str, Any] = {
        "sample.sampler.kind": "ddpm",
        "sample.sampler.variance": "learned-range" if found.learned else fixed,
        "sample.threshold.kind": "clamp",
        "sample.threshold.eps": "derived",
    }
    fewer = flags.text("timestep_respacing")
    if fewer and fewer.isdecimal():
        settings |= {"sample.sampler.steps": int(fewer), "sample.sampler.spacing.kind": "linspace"}
    return settings


def _differences(found: Structure, flags: Flags) -> list[str]:
    told = []
    if found.classes is not None:
        told.append(
            "Its network knows no label for any class: guidance has nothing to lead away from before the run is trained further."
        )
    fewer = flags.text("timestep_respacing")
    if fewer and not fewer.isdecimal():
        told.append(f"Its timestep_respacing {fewer} was left out; --steps says how many steps are taken.")
    return told


def _structure(weights: Weights, flags: Flags) -> Structure:
    if not any(name.startswith("output_blocks.") for name in weights):
        raise inexpressible(PROGRAM, ["it has no way up (output_blocks), as a classifier has none"])
    first = weights["input_blocks.0.0.weight"]
    inputs, outputs = _numbers(weights, "input_blocks"), _numbers(weights, "output_blocks")
    faults = []
    if first.ndim != 4:
        faults.append(f"its convolutions have {first.ndim - 2} dimensions")
    if inputs != list(range(len(inputs))):
        faults.append("its levels are halved by a mean without a convolution (conv_resample=False)")
    if faults:
        raise inexpressible(PROGRAM, faults)
    ups = [place for place in outputs if _up_layer(weights, place) is not None]
    levels = len(ups) + 1
    blocks = len(outputs) // levels - 1
    if blocks < 1 or len(outputs) % levels or len(inputs) != len(outputs):
        raise inexpressible(PROGRAM, [f"its {len(inputs)} blocks down and {len(outputs)} blocks up make no {levels} levels"])
    starts = [1 + level * (blocks + 1) for level in range(levels)]
    channels = tuple(weights[f"input_blocks.{place}.0.in_layers.2.weight"].shape[0] for place in starts)
    base, images = weights["time_embed.0.weight"].shape[1], first.shape[1]
    learned = _learns_variance(images, weights["out.2.weight"].shape[0], flags)
    if channels[0] != first.shape[0] or first.shape[0] != base or any(count % base for count in channels):
        raise inexpressible(
            PROGRAM,
            [f"its first convolution makes {first.shape[0]} channels and its levels have {channels}, with num_channels {base}"],
        )
    return Structure(
        base,
        channels,
        blocks,
        tuple(f"input_blocks.{place}.1.qkv.weight" in weights for place in starts),
        bool(ups) and f"output_blocks.{ups[0]}.{_up_layer(weights, ups[0])}.in_layers.0.weight" in weights,
        weights["input_blocks.1.0.emb_layers.1.weight"].shape[0] == 2 * channels[0],
        images,
        learned,
        weights["label_emb.weight"].shape[0] if "label_emb.weight" in weights else None,
    )


def _learns_variance(images: int, out: int, flags: Flags) -> bool:
    told = flags.truth("learn_sigma")
    if images == out == 6 and told is None:  # so have upsamplers, which see a small picture beside the noisy one
        raise missing(PROGRAM, {"learn_sigma False": "whether the network learned the variance, of 3 channels, or makes 6"})
    if out not in (images, 2 * images) or (told and images == out == 6):
        raise inexpressible(PROGRAM, [f"it makes {out} channels of {images}, as one that enlarges a small picture (SuperResModel)"])
    if told is not None and told != (out == 2 * images):
        raise contradiction("learn_sigma", told, f"a network that makes {out} channels of {images}")
    return out == 2 * images


def _check_flags(found: Structure, flags: Flags, size: tuple[int, int] | None) -> None:
    """Refuse flags that do not fit the shapes."""
    known: dict[str, tuple[Any, Any]] = {
        "num_channels": (flags.count("num_channels"), found.base),
        "num_res_blocks": (flags.count("num_res_blocks"), found.blocks),
        "use_scale_shift_norm": (flags.truth("use_scale_shift_norm"), found.scale_shift),
        "resblock_updown": (flags.truth("resblock_updown"), found.residual),
        "class_cond": (flags.truth("class_cond"), found.classes is not None),
        "channel_mult": (flags.counts("channel_mult") or None, [count // found.base for count in found.channels]),
    }
    if size is not None:
        attended = [size[0] // 2**level for level, yes in enumerate(found.attended) if yes]
        given = flags.counts("attention_resolutions")
        fitting = None if given is None else sorted(height for height in given if height in _heights(size[0], found))
        known["attention_resolutions"] = (fitting, sorted(attended))
    for name, (said, is_so) in known.items():
        if said is not None and said != is_so:
            raise contradiction(name, flags.text(name), f"a network of {name} {is_so}")
    up, down = flags.count("num_heads_upsample"), flags.count("num_heads")
    if up is not None and up != down and flags.count("num_head_channels") is None:
        raise inexpressible(PROGRAM, [f"it has {up} heads on the way up (num_heads_upsample) and {down} on the way down"])


def _check_heads(weights: Weights, flag: str, said: int) -> None:
    widths = sorted({weight.shape[0] // 3 for name, weight in weights.items() if name.endswith(".qkv.weight")})
    if any(width % said for width in widths):
        raise contradiction(flag, said, f"attention over {' and '.join(map(str, widths))} channels, which that does not divide")


def _heights(height: int, found: Structure) -> list[int]:
    return [height // 2**level for level in range(len(found.channels))]


def _numbers(weights: Weights, group: str) -> list[int]:
    return sorted({int(match[1]) for name in weights if (match := re.match(rf"{group}\.(\d{{1,6}})\.", name))})


def _up_layer(weights: Weights, place: int) -> int | None:
    """The number of the layer that doubles, in a block on the way up."""
    for layer in (1, 2):
        if any(f"output_blocks.{place}.{layer}.{name}.weight" in weights for name in ("conv", "in_layers.0")):
            return layer
    return None


def _renamed(weights: Weights, found: Structure, heads: Any, split_first: bool) -> dict[str, Tensor]:
    """All weights by our names; what has no counterpart keeps its own."""
    places = _places(weights, found)
    result: dict[str, Tensor] = {}
    for name, weight in weights.items():
        place = next((place for place in _starts(name) if place in places), None)
        if place is None:
            result[name] = weight
            continue
        rest, ours = name.removeprefix(f"{place}."), places[place]
        if rest.startswith("qkv."):
            result |= _projections(ours, rest.removeprefix("qkv."), weight, heads(weight.shape[0] // 3), split_first)
        else:
            result[f"{ours}.{_of_block(rest)}"] = weight.flatten(1) if rest == "proj_out.weight" else weight
    result["time_embedding.mlp.0.weight"] = sines_first(result["time_embedding.mlp.0.weight"], interleaved=False)
    if found.classes is not None:
        table = result["label_embedding.weight"]
        result["label_embedding.weight"] = torch.cat([table, torch.zeros_like(table[:1])])
    return result


def _starts(name: str) -> Sequence[str]:
    """All parts of a name that end before a dot, the longest first."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]


def _places(weights: Weights, found: Structure) -> Mapping[str, str]:
    """Where each of their layers is in our network."""
    levels, in_level = len(found.channels), found.blocks + 1
    places = {
        "time_embed.0": "time_embedding.mlp.0",
        "time_embed.2": "time_embedding.mlp.2",
        "label_emb": "label_embedding",
        "input_blocks.0.0": "conv_in",
        "middle_block.0": "middle_in.block",
        "middle_block.1": "middle_in.attention",
        "middle_block.2": "middle_out.block",
        "out.0": "norm_out",
        "out.2": "conv_out",
    }
    for level in range(levels):
        for block in range(found.blocks):
            theirs, ours = f"input_blocks.{1 + level * in_level + block}", f"down.{level}.stages.{block}"
            places |= {f"{theirs}.0": f"{ours}.block", f"{theirs}.1": f"{ours}.attention"}
        if level < levels - 1:
            between = f"input_blocks.{(level + 1) * in_level}.0"
            places |= {between: f"down.{level}.downsample.block", f"{between}.op": f"down.{level}.downsample.conv"}
        for block in range(in_level):
            place = level * in_level + block
            theirs, ours = f"output_blocks.{place}", f"up.{level}.stages.{block}"
            places |= {f"{theirs}.0": f"{ours}.block", f"{theirs}.1": f"{ours}.attention"}
            layer = _up_layer(weights, place)
            if layer is not None:
                up = f"{theirs}.{layer}"
                places |= {up: f"up.{level}.upsample.block", f"{up}.conv": f"up.{level}.upsample.conv"}
    return places


def _of_block(rest: str) -> str:
    for pattern, ours in (*_BLOCK, (r"^proj_out\.", "project.")):
        rest = re.sub(pattern, ours, rest)
    return rest


def _projections(ours: str, kind: str, weight: Tensor, heads: int, split_first: bool) -> dict[str, Tensor]:
    """Query, key and value, which they have in one layer: by heads and then by the three, or the other way round."""
    flat = weight.reshape(weight.shape[0], -1)
    by_three = flat.reshape(heads, 3, -1, flat.shape[1]).transpose(0, 1) if split_first else flat
    of_each = by_three.reshape(3, -1, flat.shape[1])
    shaped = of_each if weight.ndim > 1 else of_each[..., 0]
    return {f"{ours}.{name}.{kind}": part.contiguous() for name, part in zip(("query", "key", "value"), shaped, strict=True)}
