"""Read and write safetensors files, which may come from a stranger: numbers and text, so that reading runs none of its code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ddpm_cli.core.io.files import UnreadableError, open_regular
from ddpm_cli.core.io.paths import text_alias

if TYPE_CHECKING:
    from torch import Tensor

HEADER_LIMIT = 10_000_000
"""Largest header, in bytes: ours have a hundred a tensor, and each entry costs twenty times its bytes once it is read."""

SUM = "ddpm_content_sha256"
"""In the metadata of a file that is found again by its name alone: see `summed`."""

_LENGTH_BYTES = 8


class TensorFile(NamedTuple):
    """Hold what a safetensors file holds.

    Attributes:
        tensors: On the CPU, by name; views of the file, which must not change while they are in use.
        metadata: Text by name.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def read_tensor_file(path: Path) -> TensorFile:
    """Read a safetensors file; a link to one is followed.

    Raises:
        UnreadableError: If it is missing, no ordinary file, damaged, or larger than the machine's memory.
        OSError: If it cannot be opened, which says nothing about the file.
    """
    from safetensors import SafetensorError, safe_open

    target = path.resolve()
    _check_size(target)
    try:
        with text_alias(target) as alias, safe_open(alias, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return TensorFile(tensors, file.metadata() or {})
    # torch has errors of its own for a dtype or a shape that it does not know
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise UnreadableError(f"is truncated or no safetensors file ({error})") from error


def summed(tensors: dict[str, Tensor]) -> bytes:
    """Make a safetensors file of contiguous tensors on the CPU that holds the sum of its own content, see `read_summed`."""
    from safetensors.torch import save

    return save(tensors, metadata={SUM: content_sha256(tensors, {})})


def read_summed(path: Path, *, required: bool = True) -> dict[str, Tensor]:
    """Read the tensors of a file of `summed`, and compare them with its sum.

    Args:
        path: The file; a link to one is followed.
        required: Refuse a file without a sum, as earlier versions wrote it.
    Raises:
        UnreadableError: If it holds another content, or see `read_tensor_file`.
        OSError: If it cannot be opened, which says nothing about the file.
    """
    tensors, metadata = read_tensor_file(path)
    if SUM not in metadata and required:
        raise UnreadableError("has no sum to check it by")
    if SUM in metadata and metadata[SUM] != content_sha256(tensors, {}):
        raise UnreadableError("does not match its sum")
    return tensors


def content_sha256(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Sum names, dtypes, shapes, metadata and bytes, SHA-256, hexadecimal, so that no part can change unnoticed."""
    import torch

    names = sorted(tensors)
    described = [[name, str(tensors[name].dtype), list(tensors[name].shape)] for name in names]
    digest = hashlib.sha256(json.dumps([described, dict(metadata)], sort_keys=True).encode())
    for name in names:
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class TensorHeader(NamedTuple):
    """Hold what a safetensors file says of itself.

    Attributes:
        shapes: Shape of each tensor, by name.
        metadata: Text by name.
    """

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def read_tensor_header(path: Path) -> TensorHeader:
    """Read names and shapes alone, without torch; a link to a file is followed.

    Raises:
        UnreadableError: If it is missing, no ordinary file or damaged.
        OSError: If it cannot be opened, which says nothing about the file.
    """
    from safetensors import SafetensorError, safe_open

    target = path.resolve()
    _check_size(target)
    try:
        with text_alias(target) as alias, safe_open(alias, framework="numpy") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return TensorHeader(shapes, file.metadata() or {})
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise UnreadableError(f"is truncated or no safetensors file ({error})") from error


def _check_size(path: Path) -> None:
    import psutil

    with open(open_regular(path), "rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        size = os.fstat(file.fileno()).st_size
    if not 0 < length <= size - _LENGTH_BYTES:
        raise UnreadableError("is truncated or no safetensors file (the length of its header does not fit)")
    if length > HEADER_LIMIT:
        raise UnreadableError(f"has a header of {length:,} bytes, more than the {HEADER_LIMIT:,} that are read")
    memory = psutil.virtual_memory().total
    if size > memory:
        raise UnreadableError(f"needs {size / 1e9:,.0f} GB of memory, but this machine has {memory / 1e9:,.0f}")
