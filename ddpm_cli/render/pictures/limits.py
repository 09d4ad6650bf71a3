"""Check whether a picture can be written, before it is drawn: Pillow itself is asked, with blank strips of its sides."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from ddpm_cli.config.schema.sample import MOST_PICTURE_PIXELS
from ddpm_cli.errors import OutputError
from ddpm_cli.render.pictures.images import (
    FILMSTRIP,
    PADDING,
    ROW,
    STRIP_FRAMES,
    animated_mode,
    animation_format,
    format_of,
    grid_layout,
    mode_of,
    name_margin,
    picture_format,
)

SMALL = 16
BLOCK = 300
"""Pixels of a side beyond which no format cares for one side because of the other; icons, which come in set sizes, end before."""
STDERR = 2
HALF, OPAQUE = 128, 255
HALF_TRANSPARENT: dict[str, int | tuple[int, ...]] = {"L": 0, "RGB": 0, "RGBA": (0, 0, 0, HALF)}
"""What tries a format: GIF has alpha, but of one bit, as good as none."""


def require_picture_name(path: Path) -> None:
    """Refuse file names whose suffix stands for no format that this Pillow writes, whatever the picture.

    Raises:
        OutputError: Naming the suffix.
    """
    known = not path.suffix or format_of(path.suffix) is not None
    if not known or all(_fault(picture_format(path), mode, SMALL, SMALL) for mode in ("RGB", "L")):
        raise OutputError(
            f"Cannot write {path}: {path.suffix} is no picture format that can be written here.", "Use .png, .jpg or .webp."
        )


def require_grid(
    path: Path, count: int, image_shape: tuple[int, int, int], columns: int | None = None, row_names: Sequence[str] | None = None
) -> None:
    """Refuse what `save_grid` could not write.

    Args:
        path: The file.
        count: Images.
        image_shape: Channels, height and width of each.
        columns: Images in a row; see `grid`.
        row_names: Names of the rows, if they have some.
    Raises:
        OutputError: If the picture has more pixels than a format or the memory can hold, or channels that the format lacks.
    """
    width, height = _grid_size(count, image_shape, columns, row_names)
    _require(path, picture_format(path), mode_of(image_shape[0]), width, height)


def require_images(path: Path, count: int, image_shape: tuple[int, int, int]) -> None:
    """Refuse what `save_images` could not write; for arguments and errors see `require_grid`."""
    if count == 1:
        _require(path, picture_format(path), mode_of(image_shape[0]), image_shape[2], image_shape[1])
    else:
        require_grid(path, count, image_shape, min(count, ROW))


def require_trajectory(
    path: Path,
    count: int,
    frames: int,
    image_shape: tuple[int, int, int],
    columns: int | None = None,
    row_names: Sequence[str] | None = None,
) -> None:
    """Refuse what `save_trajectory` could not write; `frames` are those of an animation, for the others see `require_grid`."""
    if path.suffix.lower() == FILMSTRIP:
        shown = min(STRIP_FRAMES, frames)
        require_grid(path, count * shown, image_shape, shown)
    else:
        width, height = _grid_size(count, image_shape, columns, row_names)
        _require(path, animation_format(path), animated_mode(path, image_shape[0]), width, height, frames)


def _grid_size(
    count: int, image_shape: tuple[int, int, int], columns: int | None, row_names: Sequence[str] | None
) -> tuple[int, int]:
    _, height, width = image_shape
    columns, rows = grid_layout(count, columns)
    size = columns * (width + PADDING) + PADDING, rows * (height + PADDING) + PADDING
    return (size[0] + name_margin(row_names, size[1]), size[1]) if row_names else size


def _require(path: Path, form: str, mode: str, width: int, height: int, frames: int = 1) -> None:
    if width * height * frames > MOST_PICTURE_PIXELS:
        times = f"{frames} times " if frames > 1 else ""
        raise OutputError(
            f"{path} would have {times}{width:,}x{height:,} pixels, more than the {MOST_PICTURE_PIXELS:,} that a picture may have.",
            "Draw fewer images at a time: --n, or --seeds for one part after the other.",
        )
    if fault := _fault(form, mode, SMALL, SMALL):
        raise OutputError(f"Cannot write {path}: {form} holds no images with {_named(mode)} here ({fault}).", "Use .png.")
    block = min(width, BLOCK), min(height, BLOCK)
    if fault := _fault(form, mode, width, 1) or _fault(form, mode, 1, height) or _fault(form, mode, *block):
        raise OutputError(
            f"Cannot write {path}: it would have {width:,}x{height:,} pixels, which {form} cannot hold ({fault}).",
            "Use .png, or draw fewer images.",
        )


def _named(mode: str) -> str:
    return {"L": "grey pixels", "RGB": "colours", "RGBA": "transparency"}[mode]


def _fault(form: str, mode: str, width: int, height: int) -> str:
    """Why a format cannot hold a picture; empty if one that is half transparent, or blank, comes back as it was."""
    content = io.BytesIO()
    with _silence():
        try:
            Image.new(mode, (width, height), HALF_TRANSPARENT[mode]).save(content, format=form)
            if form not in Image.OPEN:
                return ""
            with Image.open(content) as read:
                size, kept = read.size, not mode.endswith("A") or _degrees_of_alpha(read)
        except Exception as error:  # noqa: BLE001 - each format has errors of its own
            return str(error) if content.tell() == 0 else "what is written cannot be read again"
    if size != (width, height):
        return "it comes out in another size"
    return "" if kept else "it is lost"


def _degrees_of_alpha(picture: Image.Image) -> bool:
    return not {0, OPAQUE} & set(picture.convert("RGBA").getchannel("A").tobytes())


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what Pillow warns of, and what libraries below it write to stderr, off the terminal."""
    kept, nowhere = os.dup(STDERR), os.open(os.devnull, os.O_WRONLY | getattr(os, "O_BINARY", 0))
    try:
        os.dup2(nowhere, STDERR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)
        os.close(nowhere)
