"""One encoded picture: what its header says, and its pixels as training wants them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import threading
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from ddpm_cli.data.memory import return_freed_memory
from ddpm_cli.files import UnreadableError

# Without a handler Python itself would write Pillow's complaints to stderr; the error that follows says it all.
logging.getLogger("PIL").addHandler(logging.NullHandler())

# A list of our own: Pillow knows formats that start other programs (EPS) or that it can name but not read.
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "TGA", "JPEG2000", "AVIF")
SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("png", "apng", "jpg", "jpeg", "jpe", "jfif", "gif", "webp", "bmp", "dib", "tif", "tiff"),
        *("ppm", "pgm", "pbm", "pnm", "pfm", "tga", "jp2", "j2k", "avif"),
        *("heic", "heif"),  # not read, but pictures for whoever owns them, who must be told
    )
)
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F"})
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
STRIP_ROWS = 256
MOST_PIXELS = 50_000_000
"""Of a picture, as many as large cameras make: decoding takes up to nine bytes for each, beside its file."""

LARGE_PIXELS = 4_000_000
"""Of a picture whose memory is given back to the system when it is done with."""

HUNGRY = frozenset({"WEBP", "JPEG2000", "AVIF"})
"""Formats whose decoders hold as much again for themselves, so that half as many pixels are read."""
FULL_SCALES = (1.0, 255.0, 65535.0, 2147483647.0)


class _PixelBudget:
    """Makes threads wait, so that together they hold no more pixels than the largest picture has."""

    def __init__(self) -> None:
        self._free = MOST_PIXELS
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def room_for(self, pixels: int) -> Iterator[None]:
        """Wait for room, and keep it during the block."""
        with self._changed:
            self._changed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            if pixels > LARGE_PIXELS:
                return_freed_memory()
            with self._changed:
                self._free += pixels
                self._changed.notify_all()


_IN_MEMORY = _PixelBudget()


class Header(NamedTuple):
    """What a picture's header says.

    Attributes:
        height: Pixels, as it is to be seen: after turning it as its EXIF data say.
        width: Likewise.
        channels: 1 if it is grey, 3 if it is colour, whether or not it is transparent.
        mode: Pillow's name of how its pixels are stored.
        format: Such as "PNG".
    """

    height: int
    width: int
    channels: Literal[1, 3]
    mode: str
    format: str


@contextlib.contextmanager
def quiet_decoders() -> Iterator[None]:
    """Keep Pillow's warnings off the console: what matters of them is told of each file. Not for use within a thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_header(content: bytes) -> Header:
    """What the header says; of the pixels nothing is looked at, so that they may still turn out to be damaged.

    Raises:
        UnreadableError: If it is no picture, or one of more pixels than Pillow takes for harmless.
    """
    with _opened(content) as image:
        return _header(image)


def read_whole(content: bytes) -> tuple[Header, bytes]:
    """The header, and a sum of the pixels as they are to be seen, which two pictures share that look the same.

    Returns:
        Header, and the SHA-256 of height, width and the pixels as RGBA.
    Raises:
        UnreadableError: If any part of it cannot be read.
    """
    with _opened(content) as image:
        header, seen = _header(image), _upright(image)
        digest = hashlib.sha256(f"{seen.height} {seen.width} ".encode())
        for strip in _strips(seen):
            digest.update(strip.convert("RGBA").tobytes())
        return header, digest.digest()


def decode(content: bytes, shape: tuple[int, int, int], background: str) -> NDArray[np.uint8]:
    """The pixels as training wants them.

    Args:
        content: The encoded picture; of an animation the first frame counts.
        shape: Channels (1 grey, 3 colour, 4 colour and alpha), height and width; see `fitted`.
        background: What shows through where it is transparent; not for 4 channels, which keep their alpha.
    Returns:
        uint8, shaped as `shape` says.
    Raises:
        UnreadableError: If any part of it cannot be read.
    """
    channels, height, width = shape
    with _opened(content) as image:
        pixels = np.asarray(fitted(_flattened(_upright(image), channels, background), height, width))
    return np.ascontiguousarray(pixels.reshape(height, width, channels).transpose(2, 0, 1))


def fitted(image: Image.Image, height: int, width: int) -> Image.Image:
    """Resize the short side and cut the long one about the middle; proportions stay.

    Lanczos as Pillow does it: the filter widens with the reduction, so that nothing aliases (Parmar et al. 2022, "On Aliased
    Resizing"), it keeps more detail than a box or bilinear filter, and it gives the same pixels on every machine. The part that
    stays is resized in one pass, its borders at fractions of a pixel; so a long panorama costs no more than a square.

    Args:
        image: Mode L, RGB or RGBA.
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


@contextlib.contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    if not content:
        raise UnreadableError("is empty")
    try:
        with Image.open(io.BytesIO(content), formats=_formats()) as image:
            weight = 2 if image.format in HUNGRY else 1
            if weight * image.width * image.height > MOST_PIXELS:
                raise UnreadableError(f"would unpack to more than {MOST_PIXELS // weight:,} pixels")
            with _IN_MEMORY.room_for(weight * image.width * image.height):
                yield image
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableError("is no picture of a format that is read") from error
    except Image.DecompressionBombError as error:
        raise UnreadableError(f"would unpack to more than {MOST_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow meets damage with errors of every kind
        raise UnreadableError(f"is damaged: {str(error) or type(error).__name__}") from error


@cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _header(image: Image.Image) -> Header:
    mode, format_name, channels = image.mode, image.format or "", _channels(image)
    if format_name == "TIFF":
        image.load()  # which turns it, where other formats leave that to us
    width, height = image.size
    if _orientation(image) >= 5:  # these swap the sides
        width, height = height, width
    return Header(height, width, channels, mode, format_name)


def _channels(image: Image.Image) -> Literal[1, 3]:
    if image.mode in GREY_MODES or image.mode.startswith("I;"):
        return 1
    if image.mode in ("P", "PA") and (palette := image.getpalette()):
        colours = np.array(palette).reshape(-1, 3)
        return 1 if (colours == colours[:, :1]).all() else 3
    return 3


def _orientation(image: Image.Image) -> int:
    """How EXIF says to turn it, 1 to 8; 1, not at all, where the data are missing or nonsense."""
    try:
        found = image.getexif().get(ORIENTATION)
    except Exception:  # noqa: BLE001 - damaged EXIF data, with which the pixels may be fine
        return 1
    return found if isinstance(found, int) and found in TURNS else 1


def _upright(image: Image.Image) -> Image.Image:
    """Eight bits a channel and turned as EXIF says; RGBA if it is transparent, else L or RGB."""
    image.load()
    channels, turn = _channels(image), TURNS.get(_orientation(image))
    if image.mode.startswith("I") or image.mode == "F":
        image = _instead_of(image, _from_deep(image))
    elif image.has_transparency_data:
        image = _converted(image, "RGBA")
    elif image.mode == "LAB":
        image = _instead_of(image, ImageCms.applyTransform(image, _lab_to_srgb()) or image)
    else:
        image = _converted(image, "L" if channels == 1 else "RGB")
    return image if turn is None else _instead_of(image, image.transpose(turn))


def _converted(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else _instead_of(image, image.convert(mode))


def _instead_of(image: Image.Image, made: Image.Image) -> Image.Image:
    """What was made of a picture, whose own memory is given back: two copies of a large one are within bounds, three are not."""
    if made is not image:
        image.close()
    return made


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    """The picture from top to bottom, STRIP_ROWS at a time."""
    for top in range(0, image.height, STRIP_ROWS):
        yield image.crop((0, top, image.width, min(top + STRIP_ROWS, image.height)))


def _from_deep(image: Image.Image) -> Image.Image:
    """Grey of 8 bits from 16 bits, 32 bits or floats, scaled and never clipped above.

    16 bits are divided by 257. What white is in the others is not written in a file: it is taken to be the smallest of 1 (floats
    only), 255 (floats only), 65535 and 2**31 - 1 that is no less than the largest value.
    """
    extremes = [(strip.min(), strip.max()) for strip in map(_floats, _strips(image))]
    if not np.isfinite(extremes).all():  # NaN is both of them
        raise UnreadableError("holds values that are not finite")
    largest = float(max(high for _, high in extremes))
    scales = FULL_SCALES if image.mode == "F" else FULL_SCALES[2:]
    white = next((scale for scale in scales if largest <= scale), largest)
    scaled = np.empty((image.height, image.width), np.uint8)
    for number, strip in enumerate(map(_floats, _strips(image))):
        scaled[number * STRIP_ROWS : number * STRIP_ROWS + len(strip)] = np.rint(np.maximum(strip, 0) * (255 / white))
    return Image.fromarray(scaled)


def _floats(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image, np.float32)


@cache
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def _flattened(image: Image.Image, channels: int, background: str) -> Image.Image:
    if channels == 4:
        return _converted(image, "RGBA")
    mode = "L" if channels == 1 else "RGB"
    return _over(image, background, mode) if image.mode == "RGBA" else _converted(image, mode)


def _over(image: Image.Image, background: str, mode: str) -> Image.Image:
    """A transparent picture before a background, in strips, so that memory holds it no third time."""
    result = Image.new(mode, image.size)
    for number, strip in enumerate(_strips(image)):
        seen = Image.alpha_composite(Image.new("RGBA", strip.size, background), strip).convert(mode)
        result.paste(seen, (0, number * STRIP_ROWS))
    return result
