"""Write images as files: near-square grids, single pictures, animations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ddpm_cli.core.io.files import replacing
from ddpm_cli.data.scale import USUAL, Scale
from ddpm_cli.errors import OutputError
from ddpm_cli.render.pictures.false_colour import false_colour
from ddpm_cli.render.pictures.values import holds_values, is_usual, save_values

Images = NDArray[np.uint8]
PADDING = 2
ROW = 16
FRAME_MS = 80
LAST_FRAME_MS = 2000
ANIMATIONS = {".gif": "GIF", ".apng": "PNG"}
FILMSTRIP = ".png"
STRIP_FRAMES = 10
FONT_PIXELS = (8, 24)
NAME_PIXELS = 14
NAMED_HEIGHT = 64
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def mode_of(channels: int) -> str:
    """Tell what Pillow calls the pictures that `picture` makes of images with so many channels."""
    return MODES.get(channels, MODES[3])


def shown_channels(images: Images) -> Images:
    """Give images, uint8 [N, C, H, W], channels that a picture has: 1, 3 and 4 stay, others become 3, see `false_colour`."""
    return images if images.shape[1] in MODES else false_colour(images)


def picture(image: Images) -> Image.Image:
    """Make a PIL image of one, uint8 [C, H, W]: grey for one channel, colour for three, RGBA for four.

    Two channels, and more than four, are shown in false colours.
    """
    image = shown_channels(image[None])[0]
    return Image.fromarray(np.ascontiguousarray(image.squeeze(0) if image.shape[0] == 1 else image.transpose(1, 2, 0)))


def grid_layout(count: int, columns: int | None) -> tuple[int, int]:
    """Choose columns and rows of a grid of `count` images, see `grid`."""
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    return columns, math.ceil(count / columns)


def grid(images: Images, columns: int | None = None) -> Images:
    """Put images side by side on black, 2 pixels apart.

    Args:
        images: uint8 [N, C, H, W], N at least 1.
        columns: Images in a row; as near to a square as possible if None.

    Returns:
        uint8 [C, rows * (H + 2) + 2, columns * (W + 2) + 2]; C is 3 where the images are shown in false colours.
    """
    images = shown_channels(images)
    count, channels, height, width = images.shape
    columns, rows = grid_layout(count, columns)
    canvas = np.zeros((channels, rows * (height + PADDING) + PADDING, columns * (width + PADDING) + PADDING), np.uint8)
    if channels == 4:
        canvas[-1] = 255
    for number, image in enumerate(images):
        top = PADDING + (number // columns) * (height + PADDING)
        left = PADDING + (number % columns) * (width + PADDING)
        canvas[:, top : top + height, left : left + width] = image
    return canvas


def save_picture(path: Path, image: Images) -> None:
    """Write uint8 [C, H, W] to an image file, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    with replacing(path) as temporary:
        picture(image).save(temporary, format=picture_format(path))


def with_row_names(grid: Image.Image, names: Sequence[str]) -> Image.Image:
    """Add a margin to the left of a grid that names each row, white on black.

    Args:
        grid: Rows of the same height, one for each name.
        names: From top to bottom.
    """
    height, margin = grid.height / len(names), name_margin(names, grid.height)
    result = Image.new(grid.mode, (margin + grid.width, grid.height), "black")
    result.paste(grid, (margin, 0))
    draw = ImageDraw.Draw(result)
    for row, name in enumerate(names):
        draw.text((2 * PADDING, (row + 0.5) * height), name, fill="white", font=_name_font(height), anchor="lm")
    return result


def name_margin(names: Sequence[str], height: int) -> int:
    """Measure the width of the margin in which `with_row_names` names the rows of a grid so many pixels high."""
    font = _name_font(height / len(names))
    return math.ceil(max(font.getlength(name) for name in names)) + 3 * PADDING


def _name_font(row_height: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    smallest, largest = FONT_PIXELS
    return ImageFont.load_default(size=min(max(row_height / 2.5, smallest), largest))


def save_grid(path: Path, images: Images, columns: int | None = None, row_names: Sequence[str] | None = None) -> None:
    """Write images, uint8 [N, C, H, W], as one grid (see `grid`), its rows named if there are names.

    Raises:
        OutputError: If it cannot be written.
    """
    drawn = picture(grid(images, columns))
    with replacing(path) as temporary:
        (with_row_names(drawn, row_names) if row_names else drawn).save(temporary, format=picture_format(path))


def save_single(path: Path, image: NDArray[Any], scale: Scale = USUAL) -> bool:
    """Write one image, [C, H, W] as stored, with its values if the format of the file holds them, else its view in 8 bits.

    Returns:
        Whether its values were written.
    Raises:
        OutputError: If it cannot be written.
    """
    usual = is_usual(scale, len(image))
    if holds_values(path, scale, len(image)) and not (usual and format_of(path.suffix)):
        save_values(path, image, scale)
        return True
    save_picture(path, scale.view_array(image[None])[0])
    return usual


def save_images(path: Path, images: Sequence[NDArray[Any]], scale: Scale = USUAL) -> bool:
    """Write images, [C, H, W] each as stored, in rows of at most ROW, viewed in 8 bits; or one alone, see `save_single`.

    Returns:
        Whether their values were written, and not only a view of them.
    Raises:
        OutputError: If it cannot be written.
    """
    if len(images) == 1:
        return save_single(path, images[0], scale)
    save_grid(path, scale.view_array(np.stack(images)), min(len(images), ROW))
    return scale == USUAL


def hidden(image: NDArray[Any], part: NDArray[np.bool_], scale: Scale = USUAL) -> NDArray[Any]:
    """Hide a part, bool [H, W], of an image as stored, [C, H, W], in mid-grey."""
    middle = (scale.low + scale.high) / 2
    return np.where(part, image.dtype.type(middle if image.dtype.kind == "f" else round(middle)), image)


def save_named_rows(path: Path, rows: Sequence[tuple[str, Images]]) -> None:
    """Write rows of images below each other, each with its name, whole or not at all.

    Small images are drawn larger, so that names can be read beside them.

    Args:
        path: The file.
        rows: Name and images, uint8 [N, C, H, W]; their sizes may differ from row to row.
    Raises:
        OutputError: If it cannot be written.
    """
    strips = [enlarged(picture(grid(images, len(images))), NAMED_HEIGHT // images.shape[2]).convert("RGB") for _, images in rows]
    font = ImageFont.load_default(size=NAME_PIXELS)
    margin = math.ceil(max(font.getlength(name) for name, _ in rows)) + 4 * PADDING
    width, height = margin + max(strip.width for strip in strips), sum(strip.height for strip in strips)
    canvas = Image.new("RGB", (width, height), "black")
    draw = ImageDraw.Draw(canvas)
    top = 0
    for (name, _), strip in zip(rows, strips, strict=True):
        canvas.paste(strip, (margin, top))
        draw.text((2 * PADDING, top + strip.height / 2), name, fill="white", font=font, anchor="lm")
        top += strip.height
    with replacing(path) as temporary:
        canvas.save(temporary, format=picture_format(path))


def enlarged(image: Image.Image, factor: int) -> Image.Image:
    """Enlarge a picture so many times, so that its pixels are seen; leave it as it is for a factor below 2."""
    return image.resize((max(factor, 1) * image.width, max(factor, 1) * image.height), Image.Resampling.NEAREST)


def save_trajectory(
    path: Path, frames: Sequence[Images], columns: int | None = None, row_names: Sequence[str] | None = None
) -> None:
    """Write how images came out of noise, as what the suffix of `path` stands for.

    .gif and .apng play grids forever and rest on the last one, see `save_grid`; .png is a filmstrip, a row for each image, on which
    time goes from left to right over STRIP_FRAMES of the frames.

    Args:
        path: The file.
        frames: Each uint8 [N, C, H, W].
        columns: Images in a row of an animation.
        row_names: Name of each row of an animation, if they have names.
    Raises:
        OutputError: If it cannot be written.
    """
    if path.suffix.lower() == FILMSTRIP:
        save_grid(path, filmstrip(frames), min(STRIP_FRAMES, len(frames)))
        return
    pictures = [picture(grid(frame, columns)).convert(animated_mode(path, frame.shape[1])) for frame in frames]
    if row_names:
        pictures = [with_row_names(picture, row_names) for picture in pictures]
    durations = [FRAME_MS] * (len(pictures) - 1) + [LAST_FRAME_MS]
    form = animation_format(path)
    with replacing(path) as temporary:
        pictures[0].save(temporary, format=form, save_all=True, append_images=pictures[1:], duration=durations, loop=0)


def animation_format(path: Path) -> str:
    """Tell what Pillow calls the format of an animation."""
    return ANIMATIONS[path.suffix.lower()]


def animated_mode(path: Path, channels: int) -> str:
    """Tell what Pillow calls the frames of an animation. GIF has colours but no degrees of transparency."""
    grey = "L" if channels == 1 else "RGB"
    return "RGBA" if channels == 4 and path.suffix.lower() != ".gif" else grey


def filmstrip(frames: Sequence[Images]) -> Images:
    """Spread frames evenly, the first and the last among them, image by image: uint8 [N * min(STRIP_FRAMES, F), C, H, W].

    Args:
        frames: F of them, each uint8 [N, C, H, W].
    """
    chosen = np.linspace(0, len(frames) - 1, min(STRIP_FRAMES, len(frames))).round().astype(int)
    strip = np.stack([frames[number] for number in chosen], axis=1)
    return strip.reshape(-1, *strip.shape[2:])


def require_trajectory_name(path: Path) -> None:
    """Refuse file names from which no way to show a denoising follows.

    Raises:
        OutputError: Naming the ways.
    """
    if path.suffix.lower() not in (*ANIMATIONS, FILMSTRIP):
        raise OutputError(
            f"Cannot write {path}: a denoising is a .gif or .apng, which move, or a .png, a filmstrip.",
            "Give --trajectory a name that ends in one of these.",
        )


def picture_format(path: Path) -> str:
    """Tell what Pillow calls the format that the suffix of a path stands for; PNG for one that stands for none."""
    return format_of(path.suffix) or "PNG"


def format_of(suffix: str) -> str | None:
    """Tell what Pillow calls the format of a suffix, if it knows one; the five usual ones it knows before it loads all others."""
    Image.preinit()
    return Image.EXTENSION.get(suffix.lower()) or Image.registered_extensions().get(suffix.lower())
