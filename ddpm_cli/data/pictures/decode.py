"""Decode one picture: what its header says, and its pixels as training wants them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import threading
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any, BinaryIO, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, TiffImagePlugin, UnidentifiedImageError

from ddpm_cli.core.compute.allocator import return_freed_memory
from ddpm_cli.core.io.colour import convert_to_srgb, profile_use
from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.data.pictures.deep import deep_values, depth_of, keeps_all_bits, raw_mode, said_range, significant_range
from ddpm_cli.data.pictures.resizing import TURNED, Wanted, as_wanted, fitted

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
PNG_EXIF = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
"""Of which a PNG holds one if it says how it is to be turned."""

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
"""Of a picture, as many as large cameras make: decoding takes up to nine bytes for each, beside its file; 40 of deep colours."""

START_BYTES, SPARE_BYTES, BYTES_PER_PIXEL = 1 << 20, 1 << 24, 8
"""Of a large file: what is looked at first; what may be there beside the pixels, such as a preview; and four of 16 bits each."""

LARGE_PIXELS = 4_000_000
"""Of a picture whose memory is given back to the system when it is done with."""

HUNGRY = frozenset({"WEBP", "JPEG2000", "AVIF"})
"""Formats whose decoders hold as much again for themselves, so that half as many pixels are read."""

NEW_SUBFILE_TYPE, REDUCED_OR_MASK = 254, 0b101
"""A tag of TIFF, and its bits: a page with one of them is no further picture."""

DECODER_VERSION = 2
"""Raised whenever a picture's pixels may come out otherwise than before, so that those in a cache are not taken for them."""


class TooManyPixelsError(UnreadableError):
    """Tell that a picture has more pixels than are read."""


class PixelBudget:
    """Let threads wait, so that together they hold no more pixels than the largest picture has."""

    def __init__(self) -> None:
        self.free = MOST_PIXELS
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def room_for(self, pixels: int) -> Iterator[None]:
        """Wait for room, and keep it during the block."""
        with self._changed:
            self._changed.wait_for(lambda: self.free >= pixels)
            self.free -= pixels
        try:
            yield
        finally:
            if pixels > LARGE_PIXELS:
                return_freed_memory()
            with self._changed:
                self.free += pixels
                self._changed.notify_all()


IN_MEMORY = PixelBudget()


class Levels(NamedTuple):
    """Hold the values that a picture holds; of 8 bits, those that are seen.

    Attributes:
        depth: Of its header.
        low: The smallest.
        high: The largest.
        said: What the file says of the range of such values; None if it says nothing.
    """

    depth: int
    low: float
    high: float
    said: tuple[float, float] | None = None


class Header(NamedTuple):
    """Hold what a picture's header says.

    Attributes:
        height: Pixels, as it is to be seen: after turning it as its EXIF data say.
        width: Likewise.
        channels: 1 if it is grey, 3 if it is colour, whether or not it is transparent.
        mode: Pillow's name of how its pixels are stored.
        format: Such as "PNG".
        depth: A key of `deep.KINDS`. What is stored in less than 8 bits counts as 8.
        several: Whether there are further pages or frames, which are not looked at.
        profile: Name of the colour profile that it is converted from; empty if it is taken to be sRGB.
        strange_profile: Whether it holds a colour profile that cannot be used, as none is with more than 8 bits.
        cut: Whether only 8 bits are read of values that have more.
    """

    height: int
    width: int
    channels: Literal[1, 3]
    mode: str
    format: str
    depth: int = 8
    several: bool = False
    profile: str = ""
    strange_profile: bool = False
    cut: bool = False


class Whole(NamedTuple):
    """Hold what a look at all of a picture finds.

    Attributes:
        header: What its header says.
        digest: SHA-256 of height, width and the pixels as RGBA, which two pictures share that look the same.
        levels: Its values.
    """

    header: Header
    digest: bytes
    levels: Levels


@contextlib.contextmanager
def quiet_decoders() -> Iterator[None]:
    """Keep Pillow's warnings off the console: what matters of them is told of each file. Not for use within a thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_header(content: bytes, most_pixels: int = MOST_PIXELS) -> Header:
    """Read the header; of the pixels nothing is looked at, so that they may still turn out to be damaged.

    Args:
        content: The encoded picture.
        most_pixels: As for `read_whole`.
    Raises:
        UnreadableError: If it is no picture, or one of more pixels than Pillow takes for harmless.
    """
    with _decoded(content, most_pixels) as image:  # some of which Pillow decodes where it is asked how to turn them
        return _header(image, content)


def read_whole(content: bytes, most_pixels: int = MOST_PIXELS) -> Whole:
    """Read the header, a sum of the pixels as they are to be seen, and their values.

    Args:
        content: The encoded picture.
        most_pixels: A larger one is not read; half as many of some formats.
    Raises:
        UnreadableError: If any part of it cannot be read.
    """
    header = read_header(content, most_pixels)
    with _decoded(content, most_pixels) as image:
        if header.depth != 8:
            said = said_range(image)
            values = _upright_values(image, content)
            digest = hashlib.sha256(f"{header.height} {header.width} {values.shape[2]} {values.dtype} ".encode())
            digest.update(np.ascontiguousarray(values).data)
            return Whole(header, digest.digest(), _levels(header.depth, values, said, content))
        seen = _upright(image, content)
        digest = hashlib.sha256(f"{seen.height} {seen.width} ".encode())
        for strip in _strips(seen):
            digest.update(strip.convert("RGBA").tobytes())
        return Whole(header, digest.digest(), _seen_levels(seen))


def read_levels(content: bytes, most_pixels: int = MOST_PIXELS) -> Levels | None:
    """Read the values of a picture of more than 8 bits; None of any other.

    Args:
        content: The encoded picture.
        most_pixels: As for `read_whole`.
    Raises:
        UnreadableError: If any part of it cannot be read, or not all of its values are finite.
    """
    with _decoded(content, most_pixels) as image:
        if (depth := depth_of(image)) == 8:
            return None
        said = said_range(image)
        return _levels(depth, deep_values(image, content), said, content)


def decode(content: bytes, shape: tuple[int, int, int], background: str, most_pixels: int = MOST_PIXELS) -> NDArray[np.uint8]:
    """Decode the pixels of a picture of 8 bits as training wants them.

    Args:
        content: The encoded picture; of an animation the first frame counts.
        shape: Channels (1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha), height and width; see `fitted`.
        background: What shows through where it is transparent; not for 2 and 4 channels, which keep their alpha.
        most_pixels: As for `read_whole`.
    Returns:
        uint8, shaped as `shape` says.
    Raises:
        UnreadableError: If any part of it cannot be read.
    """
    channels, height, width = shape
    with _decoded(content, most_pixels) as image:
        pixels = np.asarray(fitted(_flattened(_upright(image, content), channels, background), height, width))
    return np.ascontiguousarray(pixels.reshape(height, width, channels).transpose(2, 0, 1))


def decode_deep(
    content: bytes, shape: tuple[int, int, int], background: str, wanted: Wanted, most_pixels: int = MOST_PIXELS
) -> tuple[NDArray[Any], int]:
    """Decode the values of a picture, of whatever depth, without a detour over 8 bits; see `decode`.

    Args:
        content: The encoded picture.
        shape: As for `decode`.
        background: Likewise.
        wanted: How the values are kept.
        most_pixels: As for `read_whole`.
    Returns:
        Values of the type `wanted.stored`, shaped as `shape` says, and how many values of the picture lie outside of the range.
    Raises:
        UnreadableError: If any part of it cannot be read, or not all of its values are finite.
    """
    with _decoded(content, most_pixels) as image:
        values = _upright_values(image, content) if (deep := depth_of(image) != 8) else _seen_values(_upright(image, content))
    return as_wanted(values, 65535 if deep else 255, shape, background, wanted)


class _Glance(io.RawIOBase):
    """Read no more than SPARE_BYTES of a file: a header can claim that any part of it belongs to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, SPARE_BYTES

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move as the file does."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Tell what the file does."""
        return self._file.tell()

    def read(self, size: int = -1, /) -> bytes:
        """Read as the file does, but for what is too much."""
        self._left -= max(size, 0)
        if size < 0 or self._left < 0:
            raise UnreadableError(f"has a header of more than {SPARE_BYTES:,} bytes")
        return self._file.read(size)


def require_in_proportion(file: BinaryIO, size: int) -> None:
    """Refuse a large file before it is read: one that is no picture, or holds far more bytes than its pixels need.

    Args:
        file: Seekable, at its start.
        size: Bytes in it.
    Raises:
        UnreadableError: Saying which.
    """
    start = file.read(START_BYTES)
    if start[8:12] == b"WEBP" or start[4:8] == b"ftyp":  # of these, nothing can be told from the start alone
        pixels = MOST_PIXELS // 2
    else:
        # TIFF may have its header at the end
        source = cast(BinaryIO, _Glance(file)) if start.startswith((b"II", b"MM")) else io.BytesIO(start)
        with _opened(source, MOST_PIXELS) as image:
            pixels = image.width * image.height
    most = SPARE_BYTES + BYTES_PER_PIXEL * pixels
    if size > most:
        raise UnreadableError(f"is of {size:,} bytes, more than the {most:,} that {pixels:,} pixels take")


@contextlib.contextmanager
def _decoded(content: bytes, most_pixels: int) -> Iterator[Image.Image]:
    """A picture to decode, for whose pixels there is room."""
    with _opened(content, most_pixels) as image, IN_MEMORY.room_for(_weight(image) * image.width * image.height):
        yield image


def _weight(image: Image.Image) -> int:
    return 2 if image.format in HUNGRY else 1


@contextlib.contextmanager
def _opened(content: bytes | BinaryIO, most_pixels: int) -> Iterator[Image.Image]:
    if not content:
        raise UnreadableError("is empty")
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    try:
        with Image.open(source, formats=_formats()) as image:
            most = most_pixels // _weight(image)
            if image.width * image.height > most:
                raise TooManyPixelsError(f"would unpack to more than {most:,} pixels")
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


def _header(image: Image.Image, content: bytes) -> Header:
    mode, format_name, channels, depth = image.mode, image.format or "", _channels(image), depth_of(image)
    width, height = _stored_size(image)
    cut = depth != 8 and not keeps_all_bits(image)
    if _orientation(image, content) >= 5:  # these swap the sides
        width, height = height, width
    profile, strange = profile_use(image, channels)
    if depth != 8:  # profiles are applied to 8 bits alone
        profile, strange = "", strange or bool(profile)
    return Header(height, width, channels, mode, format_name, depth, _has_several(image), profile, strange, cut)


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height before it is turned; Pillow gives those of a TIFF turned or not, as its version has it."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(image.tag_v2[TiffImagePlugin.IMAGEWIDTH]), int(image.tag_v2[TiffImagePlugin.IMAGELENGTH])
    return image.size


def _channels(image: Image.Image) -> Literal[1, 3]:
    if image.mode in GREY_MODES or image.mode.startswith("I;"):
        return 1
    if image.mode in ("P", "PA") and (palette := image.getpalette()):
        colours = np.array(palette).reshape(-1, 3)
        return 1 if (colours == colours[:, :1]).all() else 3
    return 1 if raw_mode(image).startswith("LA") else 3


def _has_several(image: Image.Image) -> bool:
    """Whether there are further pages or frames, smaller copies of the first and masks aside; the image is of no use after it."""
    try:
        if image.format == "MPO" or not getattr(image, "is_animated", False):  # cameras put their previews into MPO
            return False
        if not isinstance(image, TiffImagePlugin.TiffImageFile):
            return True
        image.seek(1)
        return not int(image.tag_v2.get(NEW_SUBFILE_TYPE, 0)) & REDUCED_OR_MASK
    except Exception:  # noqa: BLE001 - a damaged second page, with which the first may be fine
        return True


def _orientation(image: Image.Image, content: bytes) -> int:
    """How EXIF says to turn it, 1 to 8; 1, not at all, where the data are missing or nonsense."""
    if image.format == "PNG" and not any(mark in content for mark in PNG_EXIF):
        return 1  # for which Pillow would decode it, because the data may stand behind the pixels
    try:
        found = image.getexif().get(ORIENTATION)
    except Exception:  # noqa: BLE001 - damaged EXIF data, with which the pixels may be fine
        return 1
    return found if isinstance(found, int) and found in TURNS else 1


def _upright_values(image: Image.Image, content: bytes) -> NDArray[Any]:
    """Values of more than 8 bits, turned as EXIF says, [H, W, C]."""
    values = deep_values(image, content)
    return TURNED[_orientation(image, content)](values)


def _seen_values(image: Image.Image) -> NDArray[np.uint8]:
    values = np.asarray(image)
    return values[..., None] if values.ndim == 2 else values


def _upright(image: Image.Image, content: bytes) -> Image.Image:
    """Eight bits a channel of sRGB and turned as EXIF says; RGBA if it is transparent, else L or RGB."""
    image.load()
    channels, turn, profile = _channels(image), TURNS.get(_orientation(image, content)), image.info.get("icc_profile")
    if image.has_transparency_data:
        image = _converted(image, "RGBA")
    elif image.mode == "LAB":
        image = _instead_of(image, ImageCms.applyTransform(image, _lab_to_srgb()) or image)
    elif image.mode != "CMYK" or profile is None:
        image = _converted(image, "L" if channels == 1 else "RGB")
    if profile is not None:
        image = _instead_of(image, convert_to_srgb(image, profile, channels))
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


def _levels(depth: int, values: NDArray[Any], said: tuple[float, float] | None, content: bytes) -> Levels:
    """The smallest and largest value; of what is transparent, those of the colours."""
    colours = values[..., : values.shape[2] - (values.shape[2] in (2, 4))]
    low, high = float(colours.min()), float(colours.max())
    return Levels(depth, low, high, said or significant_range(content, high))


def _seen_levels(image: Image.Image) -> Levels:
    ends = np.array(image.getextrema(), float).reshape(-1, 2)[:3]  # of L, RGB or RGBA
    return Levels(8, float(ends.min()), float(ends.max()))


@cache
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def _flattened(image: Image.Image, channels: int, background: str) -> Image.Image:
    if channels in (2, 4):
        return _converted(image, "RGBA" if channels == 4 else "LA")
    mode = "L" if channels == 1 else "RGB"
    return _over(image, background, mode) if image.mode == "RGBA" else _converted(image, mode)


def _over(image: Image.Image, background: str, mode: str) -> Image.Image:
    """A transparent picture before a background, in strips, so that memory holds it no third time."""
    result = Image.new(mode, image.size)
    for number, strip in enumerate(_strips(image)):
        seen = Image.alpha_composite(Image.new("RGBA", strip.size, background), strip).convert(mode)
        result.paste(seen, (0, number * STRIP_ROWS))
    return result
