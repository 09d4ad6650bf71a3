"""Read a stranger's `UNet2DModel` in the words of our config; what ours cannot say is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ddpm_cli.core.io.files import printable
from ddpm_cli.errors import CheckpointError, RequestError

Settings = dict[str, Any]
"""Dotted keys of our config, and their values."""

# What diffusers takes for a key that its file leaves out.
UNET_DEFAULTS: Mapping[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "dropout": 0.0,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "add_attention": True,
    "resnet_time_scale_shift": "default",
    "downsample_padding": 1,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "mid_block_type": "UNetMidBlock2D",
    "mid_block_scale_factor": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "act_fn": "silu",
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,
}
UNET_CHOICES: Mapping[str, tuple[Any, ...]] = {
    "add_attention": (True, False),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "downsample_padding": (0, 1),
    "freq_shift": (0, 1),
    "flip_sin_to_cos": (True, False),
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "downsample_type": ("conv",),
    "upsample_type": ("conv",),
    "act_fn": ("silu", "swish"),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
}
DOWN_BLOCKS = {"DownBlock2D": False, "AttnDownBlock2D": True}
UP_BLOCKS = {"UpBlock2D": False, "AttnUpBlock2D": True}


def read_unet(
    unet: Mapping[str, Any], source: Path, asked: tuple[int, int] | None = None
) -> tuple[Settings, tuple[int, int, int], bool]:
    """Read the `[model]` section of a `UNet2DModel`.

    Args:
        unet: Its config.json.
        source: That file, for errors.
        asked: Height and width of its images, over the file's `sample_size`, which may be null.
    Returns:
        The section's settings; channels, height and width of the images; and whether its time embedding has cosines first.
    Raises:
        CheckpointError: If it is none.
        RequestError: If ours cannot be that network, with all reasons; or if nobody says how large its images are.
    """
    if unet.get("_class_name") != "UNet2DModel":
        found = printable(str(unet.get("_class_name")))
        raise CheckpointError(f"{source} describes a {found}, not a UNet2DModel.", "Name the folder of an unconditional pipeline.")
    given = {**UNET_DEFAULTS, **{key: value for key, value in unet.items() if key in UNET_DEFAULTS}}
    channels, down, up = given["block_out_channels"], given["down_block_types"], given["up_block_types"]
    size = _size(given["sample_size"], asked, source)
    counts = [given["in_channels"], given["out_channels"], given["layers_per_block"], given["norm_num_groups"], *size]
    if not are_counts(channels) or not are_counts(counts) or len(size) != 2 or not _are_texts(down) or not _are_texts(up):
        raise CheckpointError(
            f"{source} does not say how large its network and its images are.", "It is damaged: download it again."
        )
    faults = [*not_among(given, UNET_CHOICES), *_unfit(given, channels, down, up, size)]
    if faults:
        raise RequestError(f"ddpm has no network as {source} describes it: {'; '.join(faults)}.", "Another model can be imported.")
    attended = [DOWN_BLOCKS[kind] for kind in down]
    heads = _heads(given, channels, attended)
    model = {
        "base_channels": channels[0],
        "channel_mult": [count // channels[0] for count in channels],
        "blocks_per_level": given["layers_per_block"],
        "attention_resolutions": [size[0] // 2**level for level, yes in enumerate(attended) if yes],
        "attention_heads": heads[0] if len(heads) == 1 else 1,
        "middle_attention": given["add_attention"],
        "dropout": given["dropout"],
        "scale_shift_norm": given["resnet_time_scale_shift"] == "scale_shift",
        "norm_groups": given["norm_num_groups"],
        "stem": 1,
        "norm_eps": given["norm_eps"],
        "downsample_padding": "symmetric" if given["downsample_padding"] == 1 else "asymmetric",
        "time_frequencies": "ddpm" if given["freq_shift"] == 1 else "transformer",
    }
    if len(heads) > 1:
        model["attention_head_channels"] = given["attention_head_dim"]
    shape = (given["in_channels"], size[0], size[1])
    return {f"model.{key}": value for key, value in model.items()}, shape, bool(given["flip_sin_to_cos"])


def _unfit(
    given: Mapping[str, Any], channels: Sequence[int], down: Sequence[str], up: Sequence[str], size: Sequence[int]
) -> Iterator[str]:
    """What does not fit together, or not into our network."""
    unknown = [kind for kind in (*down, *up) if kind not in DOWN_BLOCKS and kind not in UP_BLOCKS]
    if unknown:
        yield f"its blocks are {', '.join(printable(kind) for kind in dict.fromkeys(unknown))}"
        return
    attended = [DOWN_BLOCKS.get(kind) for kind in down]
    if not len(channels) == len(down) == len(up) or [UP_BLOCKS.get(kind) for kind in reversed(up)] != attended:
        yield "its way up does not mirror its way down"
        return
    if given["in_channels"] != given["out_channels"]:
        yield f"it makes {given['out_channels']} channels of {given['in_channels']}"
    if any(count % channels[0] for count in channels):
        yield f"block_out_channels {channels} are no multiples of the first"
    if any(side % 2 ** (len(channels) - 1) for side in size):
        yield f"images of {size[0]}x{size[1]} cannot be halved {len(channels) - 1} times"
    if any(count % given["norm_num_groups"] for count in channels):
        yield f"norm_num_groups {given['norm_num_groups']} does not divide all channels"
    if given["time_embedding_dim"] not in (None, 4 * channels[0]):
        yield f"time_embedding_dim is {printable(str(given['time_embedding_dim']))}, which is {4 * channels[0]} here"
    if given["add_attention"] and _middle_groups(given) != given["norm_num_groups"]:
        yield "the norm of its middle attention is another than the others"
    if not _heads(given, channels, [bool(yes) for yes in attended]):
        yield f"attention_head_dim {printable(str(given['attention_head_dim']))} does not divide the channels of its levels"


def _size(sample_size: Any, asked: tuple[int, int] | None, source: Path) -> list[Any]:
    """Height and width of the images."""
    if asked is not None:
        return list(asked)
    if sample_size is None:
        raise RequestError(
            f"{source} leaves open how large its images are (sample_size is null).",
            "Say it: --size 32, or --size 64x48 for height and width.",
        )
    return sample_size if isinstance(sample_size, list) else [sample_size] * 2


def _middle_groups(given: Mapping[str, Any]) -> Any:
    default = given["norm_num_groups"] if given["resnet_time_scale_shift"] == "default" else None
    return default if given["attn_norm_num_groups"] is None else given["attn_norm_num_groups"]


def _heads(given: Mapping[str, Any], channels: Sequence[int], attended: Sequence[bool]) -> list[int]:
    """The different numbers of heads of its levels, [1] if none has attention; empty if they are no numbers."""
    width = given["attention_head_dim"]
    with_attention = [count for count, yes in zip(channels, attended, strict=True) if yes]
    with_attention += channels[-1:] if given["add_attention"] else []
    if width is None or not with_attention:
        return [1]
    if not are_counts([width]) or any(count % width for count in with_attention):
        return []
    return sorted({count // width for count in with_attention})


def not_among(given: Mapping[str, Any], choices: Mapping[str, tuple[Any, ...]]) -> Iterator[str]:
    """Say of each key what it is and what it may be, where it is none of its choices."""
    for key, allowed in choices.items():
        if given[key] not in allowed:
            wanted = " or ".join(map(str, allowed))
            yield f"{key} is {printable(str(given[key]))}, which is {wanted} here"


def are_counts(values: Any) -> bool:
    """Tell whether it is a list of whole numbers from 1 to a million, and not of more than a hundred."""
    return (
        isinstance(values, list)
        and 0 < len(values) <= 100
        and all(isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000 for value in values)
    )


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and len(values) <= 100 and all(isinstance(value, str) for value in values)
