"""Read one picture that a person names as an image of a model, in the range and at the depth that the model makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ddpm_cli.core.asking import as_option
from ddpm_cli.core.io.array_files import read_array
from ddpm_cli.core.io.files import UnreadableError, input_errors
from ddpm_cli.data.pictures.decode import quiet_decoders
from ddpm_cli.data.pictures.decoders import Decoders
from ddpm_cli.data.pictures.resizing import Wanted, fitted
from ddpm_cli.data.pictures.settings import printable
from ddpm_cli.data.scale import USUAL
from ddpm_cli.data.sources.folder import read_file
from ddpm_cli.data.sources.one_picture import READ_CHANNELS, read_picture
from ddpm_cli.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ddpm_cli.data.scale import Scale

ARRAY = ".npy"


def read_model_picture(
    path: Path,
    shape: tuple[int, int, int],
    scale: Scale = USUAL,
    *,
    resize: bool = False,
    background: str = "white",
    spelt: Callable[[str], str] = as_option,
) -> NDArray[Any]:
    """Read a picture as an image of a model.

    For a model of the usual 8 bits see `read_picture`. For others its values count as they are: those of a grey picture of 16 bits,
    32 bits or floats, of one of 16 bits in colour, or of an array [H, W] or [H, W, C] in a .npy file, which any model takes.

    Args:
        path: The file.
        shape: Channels, height and width of the model's images.
        scale: Of the model.
        resize: Bring another size to this, the long side cut about the middle; of a model of 8 bits also colours to grey.
        background: See `read_picture`.
        spelt: See `read_picture`.
    Returns:
        As the model stores its images, shaped as `shape` says.
    Raises:
        DataError: If it cannot be read, is not what the model makes, or has values outside of the model's range.
    """
    if path.suffix.lower() == ARRAY:
        values = _of_array(path)
    elif scale == USUAL and shape[0] in READ_CHANNELS:
        return read_picture(path, shape, resize=resize, background=background, spelt=spelt)
    else:
        values = _of_picture(path, shape, scale, resize, background, spelt)
    if len(values) != shape[0]:
        raise DataError(
            f"{_named(path)} has {len(values)} channels, but the model makes images of {shape[0]}.", "Give one of those."
        )
    if values.shape[1:] != shape[1:]:
        _require_size(path, (values.shape[1], values.shape[2]), shape[1:], resize, spelt)
        values = np.stack([_resized(channel, shape[1], shape[2]) for channel in values])
        values = values.clip(scale.low, scale.high)  # which filters that sharpen overshoot
    return _as_stored(path, values, scale)


def _of_array(path: Path) -> NDArray[np.float64]:
    """The values of a .npy file, [C, H, W]."""
    with input_errors(_named(path), DataError, "Write it by numpy.save.", "Check its name and permissions."):
        array = read_array(path)
    if array.ndim not in (2, 3) or not array.size or array.dtype.kind not in "uif":
        kind = f"{array.dtype} {list(array.shape)}"
        raise DataError(f"{_named(path)} holds {kind}, which is no image.", "Store numbers of the shape [H, W] or [H, W, C].")
    return np.atleast_3d(array).transpose(2, 0, 1).astype(np.float64)


def _of_picture(
    path: Path, shape: tuple[int, int, int], scale: Scale, resize: bool, background: str, spelt: Callable[[str], str]
) -> NDArray[np.float64]:
    """The values of an encoded picture as they are, [C, H, W]; its size is looked at before it is decoded."""
    if shape[0] not in READ_CHANNELS:
        raise DataError(
            f"The model makes images of {shape[0]} channels, as which no picture is read.", "Give them as a .npy file, [H, W, C]."
        )
    remedy = "Name a PNG or TIFF picture of more than 8 bits, or a .npy file."
    with input_errors(_named(path), DataError, remedy, "Check its name and permissions."), quiet_decoders(), Decoders() as decoders:
        content = read_file(path.parent, path.name)
        header = decoders.read_header(content)
        _require_size(path, (header.height, header.width), shape[1:], resize, spelt)
        levels = decoders.read_levels(content)
        if levels is None and scale.stored == "uint8":
            levels = decoders.read_whole(content).levels
        if levels is None:
            raise UnreadableError(f"is of 8 bits, but the pixels of the model go from {scale}")
        wanted = Wanted(min(levels.low, scale.low), max(levels.high, scale.high), "float32")
        channels = shape[0] if shape[0] - header.channels in (0, 1) else header.channels
        values, _ = decoders.decode_deep(content, (channels, header.height, header.width), background, wanted)
        return values.astype(np.float64)


def _resized(values: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    return np.asarray(fitted(Image.fromarray(values.astype(np.float32)), height, width)).astype(np.float64)


def _as_stored(path: Path, values: NDArray[np.float64], scale: Scale) -> NDArray[Any]:
    outside = int((~((values >= scale.low) & (values <= scale.high))).sum())
    if outside:
        raise DataError(
            f"{_named(path)} has {outside:,} values outside of the model's range, {scale}: it goes from {values.min():g} to "
            f"{values.max():g}.",
            "Give a picture of the same kind as those that the model was trained on.",
        )
    stored = np.dtype(scale.stored)
    return (values if stored.kind == "f" else values.round()).astype(stored)


def _require_size(path: Path, found: tuple[int, int], wanted: tuple[int, int], resize: bool, spelt: Callable[[str], str]) -> None:
    if found == wanted or resize:
        return
    raise DataError(
        f"{_named(path)} is {found[0]}x{found[1]}, height x width, but the model makes images of {wanted[0]}x{wanted[1]}.",
        f"Give one of {wanted[0]}x{wanted[1]}, or let {spelt('resize')} bring it to that.",
    )


def _named(path: Path) -> str:
    return printable(str(path))
