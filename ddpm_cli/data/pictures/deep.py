"""Read the values of pictures of more than 8 bits, or with a sign, as their files hold them: Pillow alone cuts colours."""

from __future__ import annotations

import io
import struct
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.data.ranges import BITS_8, BITS_16, FLOATS, Kind

SIGNED_8, SIGNED_16, SIGNED_32 = 108, 116, 132
KINDS = {
    8: BITS_8,
    16: BITS_16,
    32: Kind("32-bit numbers", 0, 2**32 - 1),
    0: FLOATS,
    SIGNED_8: Kind("signed 8-bit numbers", -128, 127),
    SIGNED_16: Kind("signed 16-bit numbers", -(2**15), 2**15 - 1),
    SIGNED_32: Kind("signed 32-bit numbers", -(2**31), 2**31 - 1),
}
"""What the numbers of a `Header.depth` are."""

BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
LEAST_AND_MOST = ((340, 341), (280, 281))
"""Tags of TIFF: SMinSampleValue and SMaxSampleValue, and of older files MinSampleValue and MaxSampleValue (TIFF 6.0)."""

WHITE_IS_ZERO, IS_SIGNED = 0, 2
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

_OTHER_BYTES = {f"{mode};16{order}": f"{mode};16{other}" for mode in ("RGB", "RGBA") for order, other in ("BL", "LB")}
_OTHER_BYTES |= {f"{mode};16N": f"{mode};16{'B' if sys.byteorder == 'little' else 'L'}" for mode in ("RGB", "RGBA")}
"""By how Pillow unpacks colours of 16 bits, of which it keeps the upper byte: what keeps the lower one, the other order."""

_GREY_WITH_ALPHA = "LA;16B"


def raw_mode(image: Image.Image) -> str:
    """Tell how a file's values are packed, which Pillow's mode hides: `LA;16B`, grey with alpha of 16 bits, is opened as RGBA."""
    tiles = getattr(image, "tile", ())
    arguments = tiles[0][3] if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def depth_of(image: Image.Image) -> int:
    """Tell a key of KINDS for a picture that is opened and not loaded; 8 of all that is stored in less."""
    if image.mode == "F":
        return 0
    signed = IS_SIGNED in _tag(image, SAMPLE_FORMAT)
    if _ppm_white(image):
        return 16
    if image.mode == "I":
        if ";16" in raw_mode(image):
            return SIGNED_16
        return 32 if isinstance(image, TiffImagePlugin.TiffImageFile) and not signed else SIGNED_32
    if image.mode.startswith("I;") or ";16" in raw_mode(image):
        return SIGNED_16 if signed else 16
    return SIGNED_8 if signed and image.mode == "L" else 8


def said_range(image: Image.Image) -> tuple[float, float] | None:
    """Tell what a file says of the range of `deep_values`; None if it says nothing of use. Of PNG see `significant_range`."""
    for least, most in LEAST_AND_MOST:
        low, high = _tag(image, least), _tag(image, most)
        if low and high and all(isinstance(value, int | float) for value in (*low, *high)) and min(low) < max(high):
            return _turned_over(image, float(min(low)), float(max(high)))
    bits = max(_tag(image, BITS_PER_SAMPLE), default=0)
    if white := _ppm_white(image):
        return 0.0, float(white)
    return (0.0, float(2**bits - 1)) if isinstance(bits, int) and 8 < bits < 16 else None


def significant_range(content: bytes, high: float) -> tuple[float, float] | None:
    """Tell what the sBIT of a PNG of 16 bits says of the range of its values; None if it has none of 9 to 15 bits.

    Samples are to be scaled up to all of the 16 bits, of which sBIT counts the upper ones that matter (PNG, sections 11.3.2.4 and
    12.4). Some writers leave them as they are, in the lower bits; then none is as large as 2 to the power of these.

    Args:
        content: The file.
        high: The largest of its values. That of a dark picture may be small though it is scaled up: of a set, the widest counts.
    """
    bits = _significant_bits(content) if content.startswith(PNG_MAGIC) else 0
    if not 8 < bits < 16:
        return None
    return 0.0, float(2**bits - 1 if high < 2**bits else BITS_16.high)


def _white(image: Image.Image) -> int | None:
    """The value that 0 becomes where a TIFF says that 0 is white; None where it does not, or values have a sign or are floats."""
    kind = KINDS[depth_of(image)]
    if _tag(image, PHOTOMETRIC) != (WHITE_IS_ZERO,) or kind.low != 0 or not kind.whole:
        return None
    return int(2 ** max(_tag(image, BITS_PER_SAMPLE), default=16) - 1)


def _turned_over(image: Image.Image, low: float, high: float) -> tuple[float, float]:
    white = _white(image)
    return (low, high) if white is None else (white - high, white - low)


def deep_values(image: Image.Image, content: bytes) -> NDArray[Any]:
    """Read the values of a picture that is opened and not loaded.

    Args:
        image: One whose `depth_of` is not 8.
        content: Its file.
    Returns:
        Whole numbers or floats, [H, W, C]: 1 channel if it is grey, 3 if it is colour, and one more, of 16 bits, if it is
        transparent.
    Raises:
        UnreadableError: If some are not finite.
    """
    depth, raw, white = depth_of(image), raw_mode(image), _white(image)
    transparent = image.info.get("transparency")
    if _ppm_white(image):
        return _ppm_values(image, content)
    if raw == _GREY_WITH_ALPHA:
        return _unpacked(image, content, "RGBA").view(">u2").astype(np.uint16)
    image.load()
    if image.mode[0] not in "IFL":
        values = _colours(image, content, raw)
    else:
        values = np.asarray(image)[..., None]
        if depth in (32, SIGNED_8):
            values = values.view(np.uint32 if depth == 32 else np.int8)
        if not np.isfinite(values).all():
            raise UnreadableError("holds values that are not finite")
    if transparent is not None and values.shape[2] in (1, 3):
        shown = (values != np.array(transparent)).any(-1, keepdims=True)
        return np.concatenate([values, np.where(shown, 65535, 0).astype(values.dtype)], -1)
    return values if white is None else (white - values.astype(np.int64)).astype(values.dtype)


def _colours(image: Image.Image, content: bytes, raw: str) -> NDArray[np.uint16]:
    upper, other = np.asarray(image).astype(np.uint16), _OTHER_BYTES.get(raw)
    return np.asarray((upper << 8) | (upper if other is None else _unpacked(image, content, other)), np.uint16)


def keeps_all_bits(image: Image.Image) -> bool:
    """Tell whether `deep_values` reads all bits: of colours that are packed in a strange way it reads the upper 8."""
    raw = raw_mode(image)
    return image.mode[0] in "IFL" or raw in _OTHER_BYTES or raw == _GREY_WITH_ALPHA or bool(_ppm_white(image))


def _unpacked(image: Image.Image, content: bytes, raw: str) -> NDArray[np.uint8]:
    """The picture as if it were packed in another way."""
    with Image.open(io.BytesIO(content), formats=[image.format or ""]) as again:
        tiles: Any = again.tile
        again.tile = [tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw) for tile in tiles]
        return np.asarray(again)


def _ppm_white(image: Image.Image) -> int:
    """The largest value of a binary PPM of more than 8 bits, of which Pillow keeps 8, or scales them; 0 of any other."""
    tiles = getattr(image, "tile", ())
    if not tiles or tiles[0][0] != "ppm" or not isinstance(tiles[0][3], tuple):
        return 0
    white = tiles[0][3][-1]
    return white if isinstance(white, int) and white > 255 else 0


def _ppm_values(image: Image.Image, content: bytes) -> NDArray[np.uint16]:
    tiles: Any = getattr(image, "tile", ())
    channels = 3 if image.mode == "RGB" else 1
    try:
        values = np.frombuffer(content, ">u2", image.height * image.width * channels, tiles[0][2])
    except ValueError as error:
        raise UnreadableError("is damaged: image file is truncated") from error
    return values.reshape(image.height, image.width, channels).astype(np.uint16)


def _significant_bits(content: bytes) -> int:
    """The bits of a PNG's sBIT, those of colour (PNG, section 11.3.2.4); 0 if it has none. It stands before the pixels."""
    place = content.find(b"sBIT", 0, max(content.find(b"IDAT"), 0))
    if place < 4:
        return 0
    (length,) = struct.unpack(">I", content[place - 4 : place])
    return max(content[place + 4 : place + 4 + min(length, 3)], default=0)


def _tag(image: Image.Image, number: int) -> tuple[Any, ...]:
    """The values of a tag; none of what is no TIFF."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return ()
    found = image.tag_v2.get(number, ())
    return found if isinstance(found, tuple) else (found,)
