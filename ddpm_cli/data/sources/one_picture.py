"""Read one picture that a person names: as a model's image, as a mask of one, or as it is but small."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.asking import as_option
from ddpm_cli.core.io.files import input_errors
from ddpm_cli.data.pictures.decode import Header, quiet_decoders
from ddpm_cli.data.pictures.decoders import Decoders
from ddpm_cli.data.pictures.resizing import Wanted
from ddpm_cli.data.pictures.set_scale import scale_of_one
from ddpm_cli.data.pictures.settings import printable
from ddpm_cli.data.scale import Scale
from ddpm_cli.data.sources.folder import read_file
from ddpm_cli.errors import DataError

READ_CHANNELS = (1, 3, 4)
WHITE = 128
"""Grey from which a mask is white."""


def read_picture(
    path: Path,
    shape: tuple[int, int, int],
    *,
    resize: bool = False,
    background: str = "white",
    spelt: Callable[[str], str] = as_option,
) -> NDArray[np.uint8]:
    """Read a picture as an image of a model.

    Args:
        path: The file, of any format that training reads.
        shape: Channels, height and width of the model's images.
        resize: Bring another size to this, the long side cut about the middle, and colours to grey.
        background: What shows through where it is transparent; not for 4 channels, which keep their alpha.
        spelt: Spells the name of an argument as the user knows it; an option of a command if left out.
    Returns:
        uint8, shaped as `shape` says.
    Raises:
        DataError: If it cannot be read or is not what the model makes.
    """
    channels = shape[0]
    if channels not in READ_CHANNELS:
        raise DataError(f"The model makes images of {channels} channels, as which no picture is read.", "Take another model.")
    with _opened(path) as picture:
        if not resize:
            _require_size(path, picture.header, shape[1:], spelt)
        if channels > 1 or picture.header.channels == 1 or resize:
            return picture.decoded(shape, background)
        pixels = picture.decoded((3, *shape[1:]), background)
    if (pixels != pixels[:1]).any():
        raise DataError(
            f"{_named(path)} is in colour, but the model makes grey images.",
            f"Give a grey one, or let {spelt('resize')} make it grey.",
        )
    return pixels[:1]


def read_mask(
    path: Path, size: tuple[int, int], *, resize: bool = False, spelt: Callable[[str], str] = as_option
) -> NDArray[np.bool_]:
    """Read where a picture is white, bool [H, W]; colours count by their brightness, and what is transparent is not white.

    Args:
        path: The file.
        size: Height and width.
        resize: Bring another size to this, as `read_picture` does.
        spelt: See `read_picture`.
    Raises:
        DataError: If it cannot be read, is of another size, or is white nowhere.
    """
    with _opened(path) as picture:
        if not resize:
            _require_size(path, picture.header, size, spelt)
        white: NDArray[np.bool_] = picture.decoded((1, *size), "black")[0] >= WHITE
    if not white.any():
        raise DataError(f"{_named(path)} is white nowhere, so that there is nothing to fill.", "Paint white what is to be filled.")
    return white


def read_reduced(path: Path, longest: int) -> NDArray[np.uint8]:
    """Read a picture and bring its sides to at most `longest`; a smaller one stays as it is, and proportions stay.

    Args:
        path: The file, of any format that training reads.
        longest: Pixels.
    Returns:
        uint8 [C, H, W] with 1 or 3 channels; white shows through where it is transparent.
    Raises:
        DataError: If it cannot be read.
    """
    with _opened(path) as picture:
        sides = picture.header.height, picture.header.width
        scale = min(1.0, longest / max(sides))
        height, width = (max(round(scale * side), 1) for side in sides)
        return picture.decoded((picture.header.channels, height, width), "white")


class _Picture(NamedTuple):
    """Hold an encoded picture, what its header says, and which of its values are black and white."""

    header: Header
    content: bytes
    decoders: Decoders
    scale: Scale

    def decoded(self, shape: tuple[int, int, int], background: str) -> NDArray[np.uint8]:
        """Decode it to 8 bits, from black to white."""
        if self.header.depth == 8:
            return self.decoders.decode(self.content, shape, background)
        wanted = Wanted(self.scale.low, self.scale.high, "float32")
        values, _ = self.decoders.decode_deep(self.content, shape, background, wanted)
        pixels: NDArray[np.uint8] = self.scale.view_array(values[None])[0]
        return pixels


@contextmanager
def _opened(path: Path) -> Iterator[_Picture]:
    remedy = "Name a PNG, JPEG, WebP, GIF, BMP, TIFF or PPM picture."
    with (
        input_errors(_named(path), DataError, remedy, "Check its name and permissions."),
        quiet_decoders(),
        Decoders() as decoders,
    ):
        content = read_file(path.parent, path.name)
        header = decoders.read_header(content)
        levels = decoders.read_levels(content) if header.depth != 8 else None
        yield _Picture(header, content, decoders, scale_of_one(str(path), header, levels))


def _require_size(path: Path, header: Header, size: tuple[int, int], spelt: Callable[[str], str]) -> None:
    if (header.height, header.width) != size:
        wanted = f"{size[0]}x{size[1]}"
        raise DataError(
            f"{_named(path)} is {header.height}x{header.width}, height x width, but the model makes images of {wanted}.",
            f"Give one of {wanted}, or let {spelt('resize')} bring it to that.",
        )


def _named(path: Path) -> str:
    return printable(str(path))
