"""Make images of rows of pixels, and look at them where a row can be read in two ways: the true one is smoother."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.errors import DataError

if TYPE_CHECKING:
    from ddpm_cli.data.sources.array_sets import AnyLayout

LOOKED_AT = 200
SMALLEST = 4
CLEAR = 1.1
"""Times that one reading must be rougher than the other to be the wrong one."""


class Images(NamedTuple):
    """Hold images made of rows: [N, H, W], [N, C, H, W] or [N, H, W, C] as `layout` says, and what was found, a phrase."""

    array: NDArray[np.generic]
    layout: AnyLayout
    said: str


def as_images(rows: NDArray[np.generic], what: str, *, layout: AnyLayout = "auto", size: tuple[int, int] | None = None) -> Images:
    """Make images of rows of pixels.

    Args:
        rows: [N, P]; P is H * W of grey images or 3 * H * W of colour.
        what: File and key, for messages.
        layout: NCHW if a row holds plane after plane, NHWC if it holds pixel after pixel; auto looks at the pictures.
        size: Height and width; None of square images.
    Raises:
        DataError: If the rows are no images of that size.
    """
    pixels = rows.shape[1]
    height, width, channels = _shape(pixels, size, what)
    if channels == 1:
        return Images(rows.reshape(-1, height, width), "auto", f"rows of {pixels:,} pixels, {height}x{width} each")
    planes, points = rows.reshape(-1, channels, height, width), rows.reshape(-1, height, width, channels)
    if layout == "auto":
        layout, why = _smoother(planes, points)
    else:
        why = "as data.layout says"
    order = "plane after plane" if layout == "NCHW" else "pixel after pixel"
    return Images(
        planes if layout == "NCHW" else points, layout, f"rows of {pixels:,} values, {height}x{width} each, {order}, {why}"
    )


def _smoother(planes: NDArray[np.generic], points: NDArray[np.generic]) -> tuple[AnyLayout, str]:
    of_planes, of_points = roughness(planes), roughness(points.transpose(0, 3, 1, 2))
    if max(of_planes, of_points) < CLEAR * min(of_planes, of_points):
        return "NCHW", "which the pictures do not tell: look at them with `ddpm data check --out`, or say data.layout=NHWC"
    layout: AnyLayout = "NCHW" if of_planes < of_points else "NHWC"
    one, other = sorted((of_planes, of_points))
    return layout, f"which is smoother ({one:.3g} between neighbours against {other:.3g})"


def require_planes(rows: NDArray[np.generic], channels: int, size: tuple[int, int], what: str) -> None:
    """Refuse rows that the format says hold plane after plane, and that look as if they held pixel after pixel.

    Raises:
        DataError: With the two roughnesses.
    """
    planes = roughness(rows.reshape(-1, channels, *size))
    points = roughness(rows.reshape(-1, *size, channels).transpose(0, 3, 1, 2))
    if planes > CLEAR * points:
        raise DataError(
            f"{what} should hold plane after plane, but the pictures are rougher so ({planes:.3g} between neighbours) than pixel "
            f"after pixel ({points:.3g}).",
            "Store the images as [N, H, W, C] under the key images.",
        )


def roughness(images: NDArray[np.generic]) -> float:
    """Compute the mean difference between neighbours in images [N, C, H, W], of up to 200 that lie evenly in the set."""
    some = images[:: max(1, len(images) // LOOKED_AT)].astype(np.float32)
    steps = [np.abs(np.diff(some, axis=axis)) for axis in (2, 3)]
    return float(sum(step.sum() for step in steps) / max(1, sum(step.size for step in steps)))


def images_first(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Bring the axis of images to the front, where it may be the first or the last: the pictures of the true one are smoother.

    Args:
        array: [N, H, W] or [H, W, N], or with channels [N, H, W, C] or [H, W, C, N].
    """
    if array.ndim not in (3, 4) or not array.size:
        return array
    moved = np.moveaxis(array, -1, 0)
    as_is, as_moved = (roughness(view[:, None] if view.ndim == 3 else view.transpose(0, 3, 1, 2)) for view in (array, moved))
    return moved if as_moved * CLEAR < as_is else array


def makes_image(pixels: int, size: tuple[int, int] | None) -> bool:
    """Tell whether so many values are a grey or colour image of a size, or a square one."""
    return any(_is_shape(pixels, channels, size) for channels in (1, 3))


def _is_shape(pixels: int, channels: int, size: tuple[int, int] | None) -> bool:
    height, width = size or (isqrt(max(0, pixels) // channels),) * 2
    return pixels >= SMALLEST and height * width * channels == pixels


def _shape(pixels: int, size: tuple[int, int] | None, what: str) -> tuple[int, int, int]:
    """Height, width and channels."""
    for channels in (1, 3):
        if _is_shape(pixels, channels, size):
            return *(size or (isqrt(pixels // channels),) * 2), channels
    told = "square images, grey or in colour" if size is None else f"images of {size[0]}x{size[1]}, grey or in colour"
    raise DataError(f"{what} are rows of {pixels:,} values, which are no {told}.", "Say height and width: --set data.flat_size=HxW")
