from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms

from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.data.pictures.decode import decode, fitted, quiet_decoders, read_header, read_whole

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), np.uint8)
COLOUR = RNG.integers(0, 256, (5, 7, 3), np.uint8)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def grey(content: bytes, height: int = 5, width: int = 7, background: str = "white") -> np.ndarray:
    return decode(content, (1, height, width), background)[0]


def colour(content: bytes, background: str = "white") -> np.ndarray:
    """[H, W, 3]"""
    return decode(content, (3, 5, 7), background).transpose(1, 2, 0)


def palette_picture(transparent: bool) -> bytes:
    """Columns of red and blue; blue is transparent if asked for."""
    image = Image.new("P", (7, 5))
    image.putdata([(i % 7) % 2 for i in range(35)])
    image.putpalette([255, 0, 0, 0, 0, 255])
    return encoded(image, transparency=1) if transparent else encoded(image)


# --------------------------------------------------------------------------------------------------------------- modes


def test_plain_pictures_keep_their_pixels() -> None:
    np.testing.assert_array_equal(grey(encoded(Image.fromarray(GREY))), GREY)
    np.testing.assert_array_equal(colour(encoded(Image.fromarray(COLOUR))), COLOUR)


def test_grey_as_colour_and_colour_as_grey() -> None:
    np.testing.assert_array_equal(colour(encoded(Image.fromarray(GREY))), np.repeat(GREY[:, :, None], 3, 2))
    luma = (COLOUR.astype(np.int64) @ [19595, 38470, 7471] + 32768) >> 16  # ITU-R 601, as Pillow states
    np.testing.assert_array_equal(grey(encoded(Image.fromarray(COLOUR))), luma)


def test_one_bit() -> None:
    bits = GREY > 127
    np.testing.assert_array_equal(grey(encoded(Image.fromarray(bits))), np.where(bits, 255, 0))


def test_palette() -> None:
    pixels = colour(palette_picture(transparent=False))
    np.testing.assert_array_equal(pixels[0, :3], [[255, 0, 0], [0, 0, 255], [255, 0, 0]])
    assert read_header(palette_picture(transparent=False)).channels == 3


def test_a_palette_of_greys_is_grey() -> None:
    content = encoded(Image.fromarray(GREY), "GIF")
    assert read_header(content)[:3] == (5, 7, 1)
    np.testing.assert_array_equal(grey(content), GREY)


@pytest.mark.parametrize(("background", "behind"), [("white", [255, 255, 255]), ("black", [0, 0, 0]), ("#0a141e", [10, 20, 30])])
def test_transparency_shows_the_background(background: str, behind: list[int]) -> None:
    np.testing.assert_array_equal(colour(palette_picture(transparent=True), background)[0, :2], [[255, 0, 0], behind])
    half = np.dstack([COLOUR, np.full((5, 7), 51, np.uint8)])  # a fifth
    expected = 0.2 * COLOUR + 0.8 * np.array(behind)
    np.testing.assert_allclose(colour(encoded(Image.fromarray(half)), background), expected, atol=1)
    clear = np.dstack([GREY, np.zeros((5, 7), np.uint8)])
    np.testing.assert_array_equal(colour(encoded(Image.fromarray(clear)), background)[2, 2], behind)


def test_a_transparent_colour_named_beside_the_pixels() -> None:
    pixels = COLOUR.copy()
    pixels[1, 1] = [9, 8, 7]
    content = encoded(Image.fromarray(pixels), transparency=(9, 8, 7))
    np.testing.assert_array_equal(colour(content, "black")[1, 1], [0, 0, 0])
    np.testing.assert_array_equal(colour(content, "black")[0], pixels[0])


def test_four_channels_keep_alpha() -> None:
    pixels = np.dstack([COLOUR, GREY])
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels)), (4, 5, 7), "white").transpose(1, 2, 0), pixels)
    opaque = decode(encoded(Image.fromarray(GREY)), (4, 5, 7), "white")
    np.testing.assert_array_equal(opaque, np.stack([GREY, GREY, GREY, np.full_like(GREY, 255)]))


@pytest.mark.parametrize("form", ["TIFF", "JPEG"])
def test_cmyk(form: str) -> None:
    image = Image.new("CMYK", (7, 5), (0, 255, 255, 0))  # magenta and yellow make red
    np.testing.assert_allclose(colour(encoded(image, form)), np.broadcast_to([255, 0, 0], (5, 7, 3)), atol=2)


def test_lab_and_ycbcr() -> None:
    for rgb in ((255, 255, 255), (0, 0, 0), (200, 30, 90)):
        np.testing.assert_allclose(colour(encoded(_lab(rgb), "TIFF")), np.broadcast_to(rgb, (5, 7, 3)), atol=4)
    image = Image.new("RGB", (7, 5), (200, 30, 90)).convert("YCbCr")
    np.testing.assert_allclose(colour(encoded(image, "TIFF")), np.broadcast_to([200, 30, 90], (5, 7, 3)), atol=2)


def _lab(rgb: tuple[int, int, int]) -> Image.Image:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.applyTransform(Image.new("RGB", (7, 5), rgb), ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    assert image is not None
    return image


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_counts(form: str) -> None:
    first, second = Image.new("RGB", (7, 5), (255, 0, 0)), Image.new("RGB", (7, 5), (0, 255, 0))
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(first, form, save_all=True, append_images=[second], **options)
    np.testing.assert_array_equal(colour(content), np.broadcast_to([255, 0, 0], (5, 7, 3)))


# ----------------------------------------------------------------------------------------------------------- geometry

# What a viewer does to make the picture upright, by the number that EXIF gives (EXIF 2.32, tag Orientation).
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG"])
def test_exif_orientation(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = np.add.outer(np.arange(16) * 12, np.arange(24) * 2).astype(np.uint8)
    content = encoded(Image.fromarray(smooth), form, exif=exif, **({"quality": 100} if form == "JPEG" else {}))
    expected = UPRIGHT[orientation](smooth)
    height, width = expected.shape
    assert read_header(content)[:2] == (height, width)
    np.testing.assert_allclose(grey(content, height, width), expected, atol=3 if form == "JPEG" else 0)


def test_a_nonsense_orientation_is_none() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    np.testing.assert_array_equal(grey(encoded(Image.fromarray(GREY), exif=exif)), GREY)


@pytest.mark.parametrize(("height", "width"), [(5, 3), (5, 4), (2, 7), (5, 7)])
def test_a_side_that_fits_is_cut_and_no_pixel_changes(height: int, width: int) -> None:
    top, left = (5 - height) // 2, (7 - width) // 2
    cut = grey(encoded(Image.fromarray(GREY)), height, width)
    np.testing.assert_array_equal(cut, GREY[top : top + height, left : left + width])


def test_proportions_stay() -> None:
    """A circle that is twice as wide a picture stays a circle, in the middle, and the sides are cut."""
    y, x = np.mgrid[:100, :200]
    disc = np.where((y - 49.5) ** 2 + (x - 99.5) ** 2 < 40**2, 255, 0).astype(np.uint8)
    small = np.asarray(fitted(Image.fromarray(disc), 50, 50)) > 127
    assert small.any(0).sum() == small.any(1).sum() == 40
    np.testing.assert_array_equal(small, small[:, ::-1])
    np.testing.assert_array_equal(small, small[::-1])


@pytest.mark.parametrize(("height", "width"), [(16, 24), (24, 16), (16, 16)])
def test_resizing_agrees_with_short_side_then_crop(height: int, width: int) -> None:
    """Away from the borders it is Pillow's own resize of the short side and a crop about the middle."""
    smooth = np.asarray(Image.fromarray(RNG.integers(0, 256, (16, 16), np.uint8)).resize((96, 96), Image.Resampling.BICUBIC))
    scale = max(height, width) / 96
    whole = np.asarray(Image.fromarray(smooth).resize((round(96 * scale),) * 2, Image.Resampling.LANCZOS)).astype(int)
    top, left = (len(whole) - height) // 2, (len(whole) - width) // 2
    expected = whole[top : top + height, left : left + width]
    result = np.asarray(fitted(Image.fromarray(smooth), height, width)).astype(int)
    assert np.abs(result - expected)[2:-2, 2:-2].max() <= 2


def test_reduction_does_not_alias() -> None:
    """Stripes finer than the result can hold become their mean; the nearest pixels would be black and white."""
    stripes = np.tile(np.array([0, 255], np.uint8), (96, 48))
    assert np.abs(np.asarray(fitted(Image.fromarray(stripes), 24, 24)).astype(int) - 127)[:, 2:-2].max() <= 2


def test_a_long_panorama_takes_no_more_memory_than_its_middle() -> None:
    panorama = Image.new("L", (60_000, 2), 200)
    assert fitted(panorama, 256, 256).size == (256, 256)  # resized as a whole it would have 2 billion pixels


# ------------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_truncated_files_are_unreadable(form: str, share: float) -> None:
    content = encoded(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)), form)
    with quiet_decoders(), pytest.raises(UnreadableError):
        decode(content[: int(len(content) * share)], (3, 64, 64), "white")
    with quiet_decoders(), pytest.raises(UnreadableError):
        read_whole(content[: int(len(content) * share)])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"just text", "no picture"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "no picture|damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "no picture"),
        (encoded(Image.new("1", (30_000, 30_000))), "would unpack to more than"),
    ],
)
def test_what_is_no_picture_says_why(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        read_header(content)
