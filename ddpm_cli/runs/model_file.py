"""Write weights and the text that is needed to use them into one file, in the safetensors format.

The format holds numbers and text only, so that reading a stranger's file runs none of its code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.core.io.files import UnreadableError, atomic_write
from ddpm_cli.core.io.tensor_files import TensorHeader, content_sha256, read_tensor_file, read_tensor_header
from ddpm_cli.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = "1"
_VERSION_KEY = "ddpm_format_version"
_CHECKSUM_KEY = "ddpm_sha256"
_FRAMEWORK = {"format": "pt"}  # other readers of safetensors files look for it
_OWN_KEYS = {_VERSION_KEY, _CHECKSUM_KEY, *_FRAMEWORK}


def save_model_file(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata into one safetensors file, as a whole or not at all.

    Args:
        path: File to create or replace; its folder must exist.
        tensors: Weights by name, on any device, of any layout.
        metadata: Text by name, such as the config as JSON.
    Raises:
        OutputError: If the file cannot be written; what was there before stays.
        ValueError: If metadata uses a name that the format itself needs.
    """
    from safetensors.torch import save

    reserved = _OWN_KEYS.intersection(metadata)
    if reserved:
        raise ValueError(f"reserved metadata names: {sorted(reserved)}")
    copies = {name: _to_cpu(tensor) for name, tensor in tensors.items()}
    text = {**metadata, **_FRAMEWORK, _VERSION_KEY: FORMAT_VERSION}
    atomic_write(path, save(copies, metadata={**text, _CHECKSUM_KEY: content_sha256(copies, text)}))


def load_model_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `save_model_file` wrote.

    Returns:
        Tensors on the CPU by name, and the caller's metadata.
    Raises:
        CheckpointError: If the file is missing, truncated, altered, of another program or of a newer format.
    """
    with _reading(path):
        tensors, metadata = read_tensor_file(path)
        # Clones, because the originals are views of the file, which may change while they are in use.
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    _check_version(path, metadata)
    if metadata.pop(_CHECKSUM_KEY, None) != content_sha256(tensors, metadata):
        raise CheckpointError(f"{path} was altered: its checksum does not fit its content.", "Export the run again.")
    return tensors, _of_caller(metadata)


def read_model_header(path: Path) -> TensorHeader:
    """Read names, shapes and the caller's metadata alone, without torch; the checksum is not looked at.

    Raises:
        CheckpointError: See `load_model_file`.
    """
    with _reading(path):
        header = read_tensor_header(path)
    _check_version(path, header.metadata)
    return TensorHeader(header.shapes, _of_caller(header.metadata))


def _of_caller(metadata: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in metadata.items() if name not in _OWN_KEYS}


def _check_version(path: Path, metadata: Mapping[str, str]) -> None:
    version = metadata.get(_VERSION_KEY)
    if version is None:
        raise CheckpointError(f"{path} is no model exported by ddpm.", "Export one with `ddpm export`.")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}, but this ddpm reads version {FORMAT_VERSION}.",
            "Install the version of ddpm that wrote it, or export the run again.",
        )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    if not path.exists():
        raise CheckpointError(f"There is no file {path}.", "Check the path.")
    try:
        yield
    except (UnreadableError, OSError) as error:
        if path.suffix != ".safetensors":
            raise CheckpointError(
                f"{path} is no model that can be sampled.", "Name a run, a checkpoint, or a .safetensors file of `ddpm export`."
            ) from error
        raise CheckpointError(f"{path} {error}.", "Export the run again.") from error


def _to_cpu(tensor: Tensor) -> Tensor:
    # A copy of its own for each name: the format cannot say that two of them share memory.
    return tensor.detach().to("cpu", copy=True).contiguous()
