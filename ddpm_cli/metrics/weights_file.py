"""Read weights of feature extractors in safetensors files strictly: a figure of merit must not rest on half a network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.core.io.tensor_files import read_tensor_file
from ddpm_cli.errors import CheckpointError

_COUNTER = "num_batches_tracked"
"""BatchNorm's own counter, which only training needs and some writers leave out."""


class WeightsFile(NamedTuple):
    """Hold what a file holds.

    Attributes:
        tensors: By name; half precision is widened to float32.
        metadata: Text by name.
        sha256: Of the file's bytes, hexadecimal.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    sha256: str


def read_weights(path: Path, remedy: str) -> WeightsFile:
    """Read a safetensors file.

    Args:
        path: The file.
        remedy: What to do if it is none.
    Raises:
        CheckpointError: If it is missing, damaged or of another format.
    """
    path = user_path(path, "The file of weights", CheckpointError)
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}.", "Check the path.")
    try:
        sha256 = file_sha256(path)
        tensors, metadata = read_tensor_file(path)
    except (UnreadableError, OSError) as error:
        raise CheckpointError(f"{path} {error}.", remedy) from error
    return WeightsFile({name: _widened(tensor) for name, tensor in tensors.items()}, metadata, sha256)


def file_sha256(path: Path) -> str:
    """Sum a file's bytes, hexadecimal.

    Raises:
        OSError: If it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_strictly(network: nn.Module, tensors: Mapping[str, Tensor], source: str, remedy: str) -> None:
    """Put weights into a network that must need exactly these.

    Args:
        network: Takes them.
        tensors: By the names of the network's state.
        source: Where they came from, for the message.
        remedy: How to come by right ones.
    Raises:
        CheckpointError: If one is missing, unknown, of another shape or not finite; the first of them is named.
    """
    expected = network.state_dict()
    for name in [*expected, *tensors]:
        if not name.endswith(_COUNTER) and (fault := _fault(name, tensors.get(name), expected.get(name))):
            raise CheckpointError(f"{source} does not hold the weights of this network: {fault}.", remedy)
    network.load_state_dict({name: tensors.get(name, expected[name]) for name in expected})


def _fault(name: str, found: Tensor | None, expected: Tensor | None) -> str | None:
    if expected is None:
        return f"{name} does not belong to it"
    if found is None:
        return f"{name} is missing"
    if found.shape != expected.shape:
        return f"{name} has the shape {list(found.shape)} instead of {list(expected.shape)}"
    return None if found.isfinite().all() else f"{name} is not finite"


def _widened(tensor: Tensor) -> Tensor:
    # A copy, because what safe_open hands out is a view of the file, which may change.
    return tensor.to(torch.float32, copy=True) if tensor.is_floating_point() else tensor.clone()
