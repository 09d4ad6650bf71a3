"""Convert pictures whose colour profile means other colours by their numbers to sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms

from ddpm_cli.core.io.files import printable

LARGEST_PROFILE = 1 << 23
"""Bytes; those of printing presses have up to three million."""

SAME = 2
"""Of 255: a profile that changes no colour by more is one of the many spellings of sRGB."""

LONGEST_NAME = 60
SPACES = {"L": "GRAY", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK"}


class Conversion(NamedTuple):
    """Hold what is done with the pictures of a profile; nothing, where it is sRGB.

    Attributes:
        usable: Whether it is a profile, and one of the pictures' kind of colours.
        greys: The value that each of 256 greys becomes, of a grey picture.
        transform: What converts a colour picture.
    """

    usable: bool = True
    greys: tuple[int, ...] | None = None
    transform: ImageCms.ImageCmsTransform | None = None


def profile_use(image: Image.Image, channels: int) -> tuple[str, bool]:
    """Tell what becomes of a picture's colour profile.

    Args:
        image: As it was opened.
        channels: 1 if it is grey, 3 if it is colour.
    Returns:
        Name of the profile that it is converted from, empty if it is not; and whether it has one that cannot be used.
    """
    profile = image.info.get("icc_profile")
    if not profile or image.mode == "LAB":
        return "", False
    found = _conversion(profile, "CMYK" if image.mode == "CMYK" else "L" if channels == 1 else "RGB")
    return _name(profile) if found.greys or found.transform else "", not found.usable


def convert_to_srgb(image: Image.Image, profile: bytes, channels: int) -> Image.Image:
    """Give the picture the numbers of sRGB; leave it as it is, where its profile is sRGB or cannot be used.

    Args:
        image: Mode L, RGB, RGBA or CMYK; it may be changed.
        profile: An ICC profile.
        channels: 1 if it is grey, whatever its mode, 3 if it is colour.
    Returns:
        Of the same mode, but RGB for CMYK.
    """
    _, greys, transform = _conversion(profile, "L" if channels == 1 else image.mode)
    if greys is not None:
        return image.point([*greys * 3, *range(256)] if image.mode == "RGBA" else list(greys))
    if image.mode == "CMYK":
        return image.convert("RGB") if transform is None else transform.apply(image)
    if transform is not None:
        transform.apply_in_place(image)  # two copies of a large picture are within bounds, three are not
    return image


@lru_cache(maxsize=32)
def _conversion(profile: bytes, mode: str) -> Conversion:
    """What brings pictures of a mode and a profile to sRGB, as a viewer would (ICC.1, perceptual rendering)."""
    if len(profile) > LARGEST_PROFILE or mode not in SPACES:
        return Conversion(usable=False)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if mode == "L" and space in ("GRAY", "RGB"):  # cameras give their usual profile to grey pictures too
            return _of_grey(source, "L" if space == "GRAY" else "RGB")
        return _of_colour(source, mode) if space == SPACES[mode] else Conversion(usable=False)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        return Conversion(usable=False)


def _of_grey(source: ImageCms.ImageCmsProfile, mode: str) -> Conversion:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None]).convert(mode)
    seen = ImageCms.buildTransform(source, _srgb(), mode, "RGB").apply(ramp).convert("L")
    greys = np.asarray(seen)[0].tolist()
    return Conversion() if max(abs(new - old) for old, new in enumerate(greys)) <= SAME else Conversion(greys=tuple(greys))


def _of_colour(source: ImageCms.ImageCmsProfile, mode: str) -> Conversion:
    transform = ImageCms.buildTransform(source, _srgb(), mode, "RGB" if mode == "CMYK" else mode)
    return Conversion(transform=transform) if mode == "CMYK" or _changes_colours(transform, mode) else Conversion()


def _changes_colours(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    sides = np.arange(0, 256, 15, dtype=np.uint8)
    colours = np.stack(np.meshgrid(sides, sides, sides), -1).reshape(1, -1, 3)
    seen = transform.apply(Image.fromarray(colours).convert(mode)).convert("RGB")
    return bool(np.abs(np.asarray(seen).astype(int) - colours).max() > SAME)


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@lru_cache(maxsize=32)
def _name(profile: bytes) -> str:
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip()
    except (ImageCms.PyCMSError, OSError):
        name = ""
    return printable(name)[:LONGEST_NAME] or "a profile without a name"
