"""Folders of small pictures for tests."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms


def write_picture(path: Path, seed: int, shape: tuple[int, ...] = (8, 8, 3)) -> Path:
    """A picture of noise; [H, W] is grey, [H, W, 3] colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).save(path)
    return path


def pixels(path: Path) -> NDArray[np.int64]:
    """Brightness of a picture, or of an animation's first frame, [H, W]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L")).astype(np.int64)


def write_folder(root: Path, count: int, classes: tuple[str, ...] = ("",), shape: tuple[int, ...] = (8, 8, 3)) -> Path:
    """Pictures 000.png and on, spread over the class folders in turn."""
    for number in range(count):
        write_picture(root / classes[number % len(classes)] / f"{number:03}.png", number, shape)
    return root


def mixed_picture(seed: int) -> tuple[str, bytes]:
    """A suffix and a small picture; the kind of both, out of all that occur in real folders, goes round with the seed."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(16, 33, 2).tolist()
    form, make, options = KINDS[seed % len(KINDS)]
    buffer = io.BytesIO()
    make(rng, height, width).save(buffer, form, **options)
    return SUFFIXES[form][seed // len(KINDS) % len(SUFFIXES[form])], buffer.getvalue()


def _noise(rng: np.random.Generator, *shape: int) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, shape, np.uint8))


def _colour(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    return _noise(rng, height, width, 3)


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _lab(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.applyTransform(_colour(rng, height, width), ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    assert image is not None
    return image


Make = Callable[[np.random.Generator, int, int], Image.Image]
SECOND_FRAME = {"save_all": True, "append_images": [Image.new("RGB", (32, 32), "red")]}
KINDS: tuple[tuple[str, Make, dict[str, Any]], ...] = (
    ("PNG", _colour, {}),
    ("JPEG", _colour, {"quality": 90}),
    ("PNG", lambda rng, h, w: _noise(rng, h, w), {}),
    ("JPEG", lambda rng, h, w: _noise(rng, h, w), {}),
    ("PNG", lambda rng, h, w: _colour(rng, h, w).quantize(16), {}),
    ("PNG", lambda rng, h, w: _colour(rng, h, w).quantize(16), {"transparency": 3}),
    ("GIF", _colour, {}),
    ("GIF", _colour, SECOND_FRAME),
    ("PNG", lambda rng, h, w: _noise(rng, h, w, 4), {}),
    ("WEBP", lambda rng, h, w: _noise(rng, h, w, 4), {}),
    ("PNG", lambda rng, h, w: _noise(rng, h, w, 2), {}),
    ("PNG", lambda rng, h, w: Image.fromarray(rng.integers(0, 65536, (h, w)).astype(np.uint16)), {}),
    ("TIFF", lambda rng, h, w: Image.fromarray(rng.integers(0, 65536, (h, w)).astype(np.uint16)), {}),
    ("TIFF", lambda rng, h, w: Image.fromarray(rng.random((h, w), np.float32)), {}),
    ("TIFF", lambda rng, h, w: Image.fromarray(rng.integers(0, 60_000, (h, w)).astype(np.int32)), {}),
    ("TIFF", lambda rng, h, w: _colour(rng, h, w).convert("CMYK"), {}),
    ("JPEG", lambda rng, h, w: _colour(rng, h, w).convert("CMYK"), {}),
    ("TIFF", _lab, {}),
    ("TIFF", lambda rng, h, w: _colour(rng, h, w).convert("YCbCr"), {}),
    ("PNG", lambda rng, h, w: _noise(rng, h, w).convert("1"), {}),
    ("BMP", _colour, {}),
    ("PPM", _colour, {}),
    ("JPEG", _colour, {"exif": _turned()}),
    ("PNG", _colour, SECOND_FRAME),
)
SUFFIXES = {
    "PNG": ("png", "PNG"),
    "JPEG": ("jpg", "JPG", "jpeg"),
    "GIF": ("gif", "GIF"),
    "WEBP": ("webp",),
    "TIFF": ("tif", "TIFF"),
    "BMP": ("bmp", "BMP"),
    "PPM": ("ppm",),
}


# ------------------------------------------------------------------------------------------------------- colour profiles


def _fixed(*values: float) -> bytes:
    """Numbers as ICC profiles hold them (ICC.1, s15Fixed16Number)."""
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _profile(space: bytes, name: str, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of a monitor, of version 2.4."""
    white = 0.9642, 1.0, 0.8249
    text = b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name.encode() + bytes(79)
    tags = {b"desc": text, b"wtpt": b"XYZ " + bytes(4) + _fixed(*white)} | tags
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        table += tag + struct.pack(">II", start + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s28x", start + len(data), 0x02400000, b"mntr", space, b"XYZ ", b"acsp") + _fixed(*white)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def display_p3() -> bytes:
    """The profile of Apple's screens and cameras: the primaries of DCI-P3, adapted to D50, and the curve of sRGB."""
    curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0) + _fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    primaries = {b"r": (0.51512, 0.24120, -0.00105), b"g": (0.29198, 0.69225, 0.04189), b"b": (0.15710, 0.06657, 0.78407)}
    tags = {letter + b"XYZ": b"XYZ " + bytes(4) + _fixed(*primary) for letter, primary in primaries.items()}
    return _profile(b"RGB ", "Display P3", tags | {letter + b"TRC": curve for letter in primaries})


def linear_grey() -> bytes:
    """The profile of a grey picture whose values are amounts of light."""
    return _profile(b"GRAY", "Linear grey", {b"kTRC": b"curv" + bytes(4) + struct.pack(">IH", 1, 256)})


def srgb() -> bytes:
    """A profile of sRGB itself."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def broken_files(count: int) -> list[tuple[str, bytes]]:
    """Suffixes and contents of files that no program can show whole: cut, empty, of another kind, or far too large."""
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    kinds = [("png", bomb.getvalue()), ("jpg", b""), ("png", b"This is text.\n"), ("gif", b"\x89PNG\r\n\x1a\n" + b"\0" * 64)]
    for seed in range(count - len(kinds)):
        suffix, content = mixed_picture(seed)
        kinds.append((suffix, content[: len(content) * 2 // 3]))
    return kinds
