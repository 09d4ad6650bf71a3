"""Bring pictures to the channels and the size of a data set: of 8 bits by Pillow, and of more in floats, plane by plane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from ddpm_cli.data.ranges import to_stored
from ddpm_cli.data.scale import Scale, Stored


def _as_it_is(values: NDArray[Any]) -> NDArray[Any]:
    return values


TURNED: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: _as_it_is,
    2: np.fliplr,
    3: lambda values: np.rot90(values, 2),
    4: np.flipud,
    5: lambda values: values.swapaxes(0, 1),
    6: lambda values: np.rot90(values, -1),
    7: lambda values: np.rot90(values, 2).swapaxes(0, 1),
    8: np.rot90,
}
"""How arrays [H, W, C] are turned, by their orientation in EXIF data."""

Plane = NDArray[np.float32]
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


class Wanted(NamedTuple):
    """Say how the values of pictures of more than 8 bits are kept.

    Attributes:
        low: Value that is black; what is below becomes it.
        high: Value that is white; what is above becomes it.
        stored: See `Scale`.
        factor: By which values are multiplied first, where a set mixes depths.
    """

    low: float
    high: float
    stored: Stored
    factor: float = 1.0


def as_wanted(
    values: NDArray[Any], opaque: int, shape: tuple[int, int, int], background: str, wanted: Wanted
) -> tuple[NDArray[Any], int]:
    """Bring the values of a picture to a shape, and cut them to a range.

    Args:
        values: Numbers, [H, W, C], the last of 2 or 4 channels an alpha.
        opaque: The alpha of what is not transparent.
        shape: Channels, height and width that are asked for.
        background: What shows through where it is transparent.
        wanted: How the values are kept.
    Returns:
        Values of the type `wanted.stored`, shaped as `shape` says, and how many values of the picture lie outside of the range.
    """
    bands = values.shape[2] - (values.shape[2] in (2, 4))
    colours = [values[..., band].astype(np.float32) * np.float32(wanted.factor) for band in range(bands)]
    alpha = values[..., -1].astype(np.float32) / np.float32(opaque) if bands < values.shape[2] else None
    outside = sum(int(((plane < np.float32(wanted.low)) | (plane > np.float32(wanted.high))).sum()) for plane in colours)
    colours = _with_channels([np.clip(plane, wanted.low, wanted.high, dtype=np.float32) for plane in colours], shape[0])
    planes = _resized(colours, alpha, shape, _colours_of(background, shape[0]), wanted)
    return to_stored(np.stack(planes), Scale(wanted.low, wanted.high, wanted.stored)), outside


def _with_channels(colours: list[Plane], channels: int) -> list[Plane]:
    """Grey or colour, whichever so many channels are; grey by ITU-R 601, as Pillow makes it."""
    if channels in (1, 2):
        return colours if len(colours) == 1 else [np.tensordot(np.array(LUMA, np.float32), np.stack(colours), 1)]
    return colours * 3 if len(colours) == 1 else colours


def _colours_of(background: str, channels: int) -> tuple[float, ...]:
    colours: Any = ImageColor.getrgb(background)
    return tuple(colours) if channels in (3, 4) else (sum(weight * part for weight, part in zip(LUMA, colours, strict=True)),)


def _resized(
    colours: list[Plane], alpha: Plane | None, shape: tuple[int, int, int], background: tuple[float, ...], wanted: Wanted
) -> list[Plane]:
    """Planes of the size asked for, before a background or, of 2 and 4 channels, with their alpha; weighted by it as by Pillow."""
    channels, height, width = shape

    def resized(plane: Plane) -> Plane:
        return np.asarray(fitted(Image.fromarray(plane), height, width), np.float32)

    span = wanted.high - wanted.low
    if channels not in (2, 4):
        if alpha is not None:
            below = [np.float32(wanted.low + part / 255 * span) for part in background]
            colours = [plane * alpha + part * (1 - alpha) for plane, part in zip(colours, below, strict=True)]
        return [resized(plane) for plane in colours]
    if alpha is None:
        return [*(resized(plane) for plane in colours), np.full((height, width), wanted.high, np.float32)]
    small = resized(alpha).clip(0, 1)
    weight = np.maximum(small, np.float32(1e-6))
    return [*(resized(plane * alpha) / weight for plane in colours), np.float32(wanted.low) + small * np.float32(span)]


def fitted(image: Image.Image, height: int, width: int) -> Image.Image:
    """Resize the short side and cut the long one about the middle; proportions stay.

    Lanczos as Pillow does it: the filter widens with the reduction, so that nothing aliases (Parmar et al. 2022, "On Aliased
    Resizing"), it keeps more detail than a box or bilinear filter, and it gives the same pixels on every machine. The part that
    stays is resized in one pass, its borders at fractions of a pixel; so a long panorama costs no more than a square.

    Args:
        image: Mode L, LA, RGB, RGBA or F.
        height: Of the result.
        width: Of the result.
    """
    scale = max(height / image.height, width / image.width)
    kept_width, kept_height = width / scale, height / scale
    left, top = (image.width - kept_width) / 2, (image.height - kept_height) / 2
    if scale == 1:
        return image.crop((int(left), int(top), int(left) + width, int(top) + height))
    box = (left, top, min(left + kept_width, image.width), min(top + kept_height, image.height))
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box)
