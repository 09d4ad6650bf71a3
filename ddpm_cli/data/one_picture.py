"""One picture that a person names: as a model's image, as a mask of one, or as it is but small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data.folder import read_file
from ddpm_cli.data.picture import Header, decode, quiet_decoders, read_header
from ddpm_cli.data.pictures import printable
from ddpm_cli.errors import DataError
from ddpm_cli.files import input_errors

READ_CHANNELS = (1, 3, 4)
WHITE = 128
"""Grey from which a mask is white."""


def read_picture(path: Path, shape: tuple[int, int, int], *, resize: bool = False, background: str = "white") -> NDArray[np.uint8]:
    """A picture as an image of a model.

    Args:
        path: The file, of any format that training reads.
        shape: Channels, height and width of the model's images.
        resize: Bring another size to this, the long side cut about the middle, and colours to grey.
        background: What shows through where it is transparent; not for 4 channels, which keep their alpha.
    Returns:
        uint8, shaped as `shape` says.
    Raises:
        DataError: If it cannot be read or is not what the model makes.
    """
    channels = shape[0]
    if channels not in READ_CHANNELS:
        raise DataError(f"The model makes images of {channels} channels, as which no picture is read.", "Take another model.")
    content, header = _opened(path)
    if not resize:
        _require_size(path, header, shape[1:])
    if channels > 1 or header.channels == 1 or resize:
        return _decoded(path, content, shape, background)
    pixels = _decoded(path, content, (3, *shape[1:]), background)
    if (pixels != pixels[:1]).any():
        raise DataError(
            f"{_named(path)} is in colour, but the model makes grey images.", "Give a grey one, or let --resize make it grey."
        )
    return pixels[:1]


def read_mask(path: Path, size: tuple[int, int], *, resize: bool = False) -> NDArray[np.bool_]:
    """Where a picture is white, bool [H, W]; colours count by their brightness, and what is transparent is not white.

    Args:
        path: The file.
        size: Height and width.
        resize: Bring another size to this, as `read_picture` does.
    Raises:
        DataError: If it cannot be read, is of another size, or is white nowhere.
    """
    content, header = _opened(path)
    if not resize:
        _require_size(path, header, size)
    white: NDArray[np.bool_] = _decoded(path, content, (1, *size), "black")[0] >= WHITE
    if not white.any():
        raise DataError(f"{_named(path)} is white nowhere, so that there is nothing to fill.", "Paint white what is to be filled.")
    return white


def read_reduced(path: Path, longest: int) -> NDArray[np.uint8]:
    """A picture whose sides are at most `longest`; a smaller one stays as it is, and proportions stay.

    Args:
        path: The file, of any format that training reads.
        longest: Pixels.
    Returns:
        uint8 [C, H, W] with 1 or 3 channels; white shows through where it is transparent.
    Raises:
        DataError: If it cannot be read.
    """
    content, header = _opened(path)
    scale = min(1.0, longest / max(header.height, header.width))
    height, width = (max(round(scale * side), 1) for side in (header.height, header.width))
    return _decoded(path, content, (header.channels, height, width), "white")


def _opened(path: Path) -> tuple[bytes, Header]:
    with _reading(path):
        content = read_file(path.parent, path.name)
        return content, read_header(content)


def _decoded(path: Path, content: bytes, shape: tuple[int, int, int], background: str) -> NDArray[np.uint8]:
    with _reading(path):
        return decode(content, shape, background)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    remedy = "Name a PNG, JPEG, WebP, GIF, BMP, TIFF or PPM picture."
    with input_errors(_named(path), DataError, remedy, "Check its name and permissions."), quiet_decoders():
        yield


def _require_size(path: Path, header: Header, size: tuple[int, int]) -> None:
    if (header.height, header.width) != size:
        wanted = f"{size[0]}x{size[1]}"
        raise DataError(
            f"{_named(path)} is {header.height}x{header.width}, height x width, but the model makes images of {wanted}.",
            f"Give one of {wanted}, or let --resize bring it to that.",
        )


def _named(path: Path) -> str:
    return printable(str(path))
