"""Write one image with the very values that its data have, of any depth and with up to 16 channels, as PNG, TIFF or .npy.

Pillow, torch and torchvision write no colours of more than 8 bits and no picture of two or more than four channels. Both formats
are simple without that: PNG is a header and a zlib stream (W3C, PNG 3rd edition, Sec. 5 and 11), an uncompressed TIFF a list of
tags and the values (Adobe, TIFF 6.0, Sec. 2, 8 and 19).
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from ddpm_cli.core.io.files import atomic_write
from ddpm_cli.data.scale import USUAL
from ddpm_cli.errors import OutputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ddpm_cli.data.scale import Scale

ValueFormat = Literal["png", "tiff", "npy"]
FORMATS: tuple[str, ...] = get_args(ValueFormat)
SUFFIXES = {".png": "png", ".tif": "tiff", ".tiff": "tiff", ".npy": "npy"}
"""The formats that suffixes of file names stand for."""
PNG_COLOURS = {1: 0, 3: 2, 4: 6}
"""PNG's number for grey, colour, and colour with alpha; two channels would be grey with alpha, which ours are not."""
SHORT, LONG, FLOAT = 3, 4, 11
"""TIFF's numbers for types of values of tags."""
CODES = {SHORT: "H", LONG: "I", FLOAT: "f"}
SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}
GREY_IN_TIFF, RGB_IN_TIFF = 1, 2
EXTRA, ALPHA = 0, 2
"""TIFF's numbers for a channel of which nothing is said, and for alpha that the colours were not multiplied with."""


class _Tag(NamedTuple):
    """Hold a tag of TIFF: its number, the type of its values, and these."""

    number: int
    type: int
    values: list[int] | list[float]


def is_usual(scale: Scale, channels: int) -> bool:
    """Tell whether any picture format holds the values of images: of 8 bits, and grey, colour or colour with alpha."""
    return scale == USUAL and channels in PNG_COLOURS


def format_of_values(scale: Scale, channels: int, wanted: str | None = None) -> str:
    """Choose the format of single images: the one that is wanted, else PNG if that holds them, and TIFF if not.

    Raises:
        OutputError: If there is no such format, or it does not hold such images.
    """
    reason = _not_in_png(scale, channels)
    if wanted is None:
        return "tiff" if reason else "png"
    if wanted not in FORMATS:
        raise OutputError(f"There is no format {wanted} for single images.", f"Choose one of {', '.join(FORMATS)}.")
    if wanted == "png" and reason:
        raise OutputError(f"PNG holds no images with {reason}.", "Use tiff or npy.")
    return wanted


def suffix_of(form: str) -> str:
    """Tell how the names of files of a format end: .png, .tif or .npy."""
    return next(suffix for suffix, known in SUFFIXES.items() if known == form)


def holds_values(path: Path, scale: Scale, channels: int) -> bool:
    """Tell whether the format that a file's name stands for holds the values of such an image, and not just a view of it."""
    form = SUFFIXES.get(path.suffix.lower())
    return form is not None and not (form == "png" and _not_in_png(scale, channels))


def save_values(path: Path, image: NDArray[Any], scale: Scale) -> None:
    """Write an image with its values as they are, whole or not at all.

    A TIFF file says which values are black and white: MinSampleValue and MaxSampleValue for whole numbers, SMinSampleValue and
    SMaxSampleValue for floats. Its channels lie side by side; four are colours with alpha. In .npy the shape is [H, W, C].

    Args:
        path: Its suffix is one of SUFFIXES, and `holds_values` is true of it.
        image: As stored, [C, H, W].
        scale: Of the data.
    Raises:
        OutputError: If it cannot be written.
    """
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
    match SUFFIXES[path.suffix.lower()]:
        case "png":
            content = _encoded_png(pixels)
        case "tiff":
            content = _encoded_tiff(pixels, scale)
        case _:
            file = io.BytesIO()
            np.save(file, pixels, allow_pickle=False)
            content = file.getvalue()
    atomic_write(path, content)


def _not_in_png(scale: Scale, channels: int) -> str:
    """What of such images PNG does not hold; empty if it holds them."""
    if scale.stored == "float32":
        return "floats"
    return "" if channels in PNG_COLOURS else f"{channels} channels"


def _encoded_png(pixels: NDArray[Any]) -> bytes:
    """A PNG file of pixels [H, W, C] of 8 or 16 bits."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.dtype.itemsize, PNG_COLOURS[channels], 0, 0, 0)
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    filtered = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)  # each row begins with its filter, none
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes())), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, *zip(*chunks, strict=True)))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _encoded_tiff(pixels: NDArray[Any], scale: Scale) -> bytes:
    """A TIFF file of pixels [H, W, C] of any number of channels and any type, in one strip, little-endian."""
    height, width, channels = pixels.shape
    colours = 3 if channels in (3, 4) else 1
    dtype = pixels.dtype
    values = pixels.astype(dtype.newbyteorder("<")).tobytes()
    tags = [
        _Tag(256, LONG, [width]),
        _Tag(257, LONG, [height]),
        _Tag(258, SHORT, [8 * dtype.itemsize] * channels),
        _Tag(259, SHORT, [1]),  # no compression
        _Tag(262, SHORT, [RGB_IN_TIFF if colours == 3 else GREY_IN_TIFF]),
        _Tag(273, LONG, [8]),  # where the values begin: behind the header
        _Tag(277, SHORT, [channels]),
        _Tag(278, LONG, [height]),
        _Tag(279, LONG, [len(values)]),
        *_range_of_whole_numbers(dtype, channels, scale),
        _Tag(284, SHORT, [1]),  # channels side by side
        _Tag(338, SHORT, [ALPHA if channels == 4 else EXTRA] * (channels - colours)),
        _Tag(339, SHORT, [SAMPLE_FORMATS[dtype.kind]] * channels),
        *_range_of_floats(dtype, channels, scale),
    ]
    start = 8 + len(values) + len(values) % 2
    header = b"II*\0" + struct.pack("<I", start)
    return header + values + b"\0" * (len(values) % 2) + _directory([tag for tag in tags if tag.values], start)


def _range_of_whole_numbers(dtype: np.dtype[Any], channels: int, scale: Scale) -> list[_Tag]:
    if dtype.kind == "f":
        return []
    return [_Tag(280, SHORT, [round(scale.low)] * channels), _Tag(281, SHORT, [round(scale.high)] * channels)]


def _range_of_floats(dtype: np.dtype[Any], channels: int, scale: Scale) -> list[_Tag]:
    return [_Tag(340, FLOAT, [scale.low] * channels), _Tag(341, FLOAT, [scale.high] * channels)] if dtype.kind == "f" else []


def _directory(tags: list[_Tag], start: int) -> bytes:
    """The list of tags, which begins at byte `start`; values of more than 4 bytes lie behind it."""
    entries, behind = struct.pack("<H", len(tags)), b""
    place = start + 2 + 12 * len(tags) + 4
    for number, kind, values in tags:
        packed = struct.pack(f"<{len(values)}{CODES[kind]}", *values)
        if len(packed) > 4:
            packed, offset = b"", place + len(behind)
            behind += struct.pack(f"<{len(values)}{CODES[kind]}", *values)
            behind += b"\0" * (len(behind) % 2)
            packed = struct.pack("<I", offset)
        entries += struct.pack("<HHI", number, kind, len(values)) + packed.ljust(4, b"\0")
    return entries + struct.pack("<I", 0) + behind
