"""Find and read the weights of a model of diffusers: one file or shards, of full precision or of a variant such as fp16.

Safetensors are preferred; where there are none, the pickles of torch.save are read, without running any of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.core.io.files import input_errors, printable, read_json_object
from ddpm_cli.core.io.pickled_weights import read_pickled_weights
from ddpm_cli.core.io.tensor_files import read_tensor_file, read_tensor_header
from ddpm_cli.errors import CheckpointError, RequestError

if TYPE_CHECKING:
    from torch import Tensor

STEM = "diffusion_pytorch_model"
WEIGHTS = f"{STEM}.safetensors"
DAMAGED = "Download it again from where it is whole."
PICKLED = ".bin"
_SUFFIXES = (PICKLED, ".safetensors")
"""The later is preferred."""
_SHARD = re.compile(r"(?:\.[\w-]+?)?-\d{5}-of-\d{5}\.(?:safetensors|bin)$")
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
            if path.suffix == PICKLED:
                found = read_pickled_weights(path).tensors
            else:
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
    for suffix in _SUFFIXES:
        index = rf"{STEM}\{suffix}\.index(?:\.(?P<variant>[\w-]+))?\.json"
        whole = rf"{STEM}(?:\.(?P<variant>[\w-]+?))?\{suffix}"
        for pattern in (index, whole):
            for path in sorted(folder.iterdir()):
                match = re.fullmatch(pattern, path.name)
                if match is not None and _SHARD.search(path.name) is None:
                    found[match["variant"] or ""] = path
    return found


def _none_found(folder: Path, variant: str | None, found: Sequence[str]) -> RequestError:
    named = ", ".join(name or "the one without a name" for name in found)
    if variant is not None and found:
        return RequestError(f"{folder} holds no weights of the variant {printable(variant)}, but {named}.", "Correct --variant.")
    if found:
        return RequestError(f"{folder} holds several sets of weights: {named}.", f"Choose one: --variant {found[0]}")
    return RequestError(f"{folder / WEIGHTS} cannot be read: it is missing.", "Download the .safetensors file, or the .bin file.")


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
