"""Find and read the weights of a model of diffusers: one file or shards, of full precision or of a variant such as fp16."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.core.io.files import input_errors, printable, read_json_object
from ddpm_cli.core.io.tensor_files import read_tensor_file, read_tensor_header
from ddpm_cli.errors import CheckpointError, RequestError

if TYPE_CHECKING:
    from torch import Tensor

STEM = "diffusion_pytorch_model"
WEIGHTS = f"{STEM}.safetensors"
DAMAGED = "Download it again from where it is whole."
_WHOLE = re.compile(rf"{STEM}(?:\.(?P<variant>[\w-]+?))?\.safetensors")
_INDEX = re.compile(rf"{STEM}\.safetensors\.index(?:\.(?P<variant>[\w-]+))?\.json")
_SHARD = re.compile(r"(?:\.[\w-]+?)?-\d{5}-of-\d{5}\.safetensors$")
MOST_SHARDS = 1000


def weight_files(folder: Path, variant: str | None) -> tuple[Path, ...]:
    """List the files that hold the weights: one, or all shards that an index names.

    Args:
        folder: Of the network.
        variant: Which of several sets, "fp16" for example; if None the one without a name, or the only one.
    Raises:
        RequestError: If there are none, or several of which none is the usual one.
        CheckpointError: If the index is damaged, or one of its shards is missing.
    """
    found = _variants(folder)
    if variant is None and "" not in found and len(found) == 1:
        (chosen,) = found.values()
    elif (variant or "") in found:
        chosen = found[variant or ""]
    else:
        raise _none_found(folder, variant, sorted(found))
    return _shards(chosen) if chosen.suffix == ".json" else (chosen,)


def read_weights(files: Sequence[Path]) -> dict[str, Tensor]:
    """Read all tensors of a network by diffusers' names.

    Raises:
        CheckpointError: If a file is damaged or two hold the same tensor.
    """
    tensors: dict[str, Tensor] = {}
    for path in files:
        with input_errors(path, CheckpointError, DAMAGED):
            read_tensor_header(path)  # without torch, which takes long to import
            found = read_tensor_file(path).tensors
        twice = sorted(found.keys() & tensors.keys())
        if twice:
            raise CheckpointError(f"{path} holds {printable(twice[0])}, which another of the files holds too.", DAMAGED)
        tensors |= found
    return tensors


def _variants(folder: Path) -> dict[str, Path]:
    """By the name of each variant, empty for the usual weights, the file or the index of its shards; a whole file is preferred."""
    found: dict[str, Path] = {}
    for pattern in (_INDEX, _WHOLE):
        for path in sorted(folder.iterdir()):
            match = pattern.fullmatch(path.name)
            if match is not None and _SHARD.search(path.name) is None:
                found[match["variant"] or ""] = path
    return found


def _none_found(folder: Path, variant: str | None, found: Sequence[str]) -> RequestError:
    named = ", ".join(name or "the one without a name" for name in found)
    if variant is not None and found:
        return RequestError(f"{folder} holds no weights of the variant {printable(variant)}, but {named}.", "Correct --variant.")
    if found:
        return RequestError(f"{folder} holds several sets of weights: {named}.", f"Choose one: --variant {found[0]}")
    pickled = sorted(folder.glob("*.bin"))
    reason = f"its weights are in {pickled[0].name}, a pickle, which can run a stranger's code" if pickled else "it is missing"
    return RequestError(
        f"{folder / WEIGHTS} cannot be read: {reason}.",
        "Download the .safetensors file, or convert it where you trust it: UNet2DModel.from_pretrained(DIR)"
        ".save_pretrained(DIR, safe_serialization=True)",
    )


def _shards(index: Path) -> tuple[Path, ...]:
    with input_errors(index, CheckpointError, DAMAGED):
        places = read_json_object(index.resolve()).get("weight_map")
    names = list(places.values()) if isinstance(places, dict) else []
    if not names or not all(isinstance(name, str) and _SHARD.search(name) and Path(name).name == name for name in names):
        raise CheckpointError(f"{index} does not say which files hold the weights.", DAMAGED)
    shards = sorted(set(names))
    present = {path.name for path in index.parent.iterdir()}
    absent = [name for name in shards if name not in present]
    if absent or len(shards) > MOST_SHARDS:
        what = (
            f"{len(absent)} of {len(shards)} files that it names are missing, {printable(absent[0])} for example"
            if absent
            else (f"it names {len(shards):,} files, more than {MOST_SHARDS:,}")
        )
        raise CheckpointError(f"{index} cannot be followed: {what}.", "Download the whole folder.")
    return tuple(index.parent / name for name in shards)
