"""Images of any depth and number of channels are written with their values, as readers of other programs find them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from torchvision.io import ImageReadMode, decode_png

from ddpm_cli.data.scale import USUAL, Scale
from ddpm_cli.errors import OutputError
from ddpm_cli.render.pictures.false_colour import false_colour
from ddpm_cli.render.pictures.images import grid, hidden, picture, save_images, save_single
from ddpm_cli.render.pictures.values import format_of_values, holds_values, save_values

TWELVE, SIXTEEN, FLOATS = Scale(0, 4095, "uint16"), Scale(0, 65535, "uint16"), Scale(-1.5, 700.25, "float32")


def ramp(scale: Scale, channels: int, height: int = 5, width: int = 7) -> NDArray[Any]:
    """An image whose values are all different and reach from end to end, [C, H, W]; sides and channels are odd ones."""
    values = np.linspace(scale.low, scale.high, channels * height * width)
    return values.astype(scale.stored).reshape(channels, height, width)


def by_pillow(path: Path) -> NDArray[Any]:
    """[H, W, C]."""
    with Image.open(path) as image:
        return np.atleast_3d(np.asarray(image))


def by_torchvision(path: Path) -> NDArray[Any]:
    pixels = decode_png(torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8), ImageReadMode.UNCHANGED)
    return pixels.numpy().transpose(1, 2, 0)


def tags_of(path: Path) -> ImageFileDirectory_v2:
    """The tags of a TIFF file, read by Pillow, which knows no picture of five channels but the list of any."""
    content = path.read_bytes()
    directory = ImageFileDirectory_v2(content[:8])
    file = io.BytesIO(content)
    file.seek(directory.next)
    directory.load(file)
    return directory


def by_tags(path: Path) -> NDArray[Any]:
    tags = tags_of(path)
    kind = {1: "u", 3: "f"}[tags[339][0]]
    dtype = np.dtype(f"<{kind}{tags[258][0] // 8}")
    return np.frombuffer(path.read_bytes(), dtype, tags[279][0] // dtype.itemsize, tags[273][0]).reshape(tags[257], tags[256], -1)


@pytest.mark.parametrize("scale", [TWELVE, SIXTEEN], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_of_16_bits_is_read_as_it_was(scale: Scale, channels: int, tmp_path: Path) -> None:
    image = ramp(scale, channels)
    save_single(tmp_path / "a.png", image, scale)
    found = by_torchvision(tmp_path / "a.png")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, image.transpose(1, 2, 0))
    if channels == 1:
        np.testing.assert_array_equal(by_pillow(tmp_path / "a.png"), image.transpose(1, 2, 0))


@pytest.mark.parametrize("scale", [USUAL, TWELVE, FLOATS], ids=str)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 16])
def test_tiff_holds_any_values_and_channels_and_says_their_range(scale: Scale, channels: int, tmp_path: Path) -> None:
    image, path = ramp(scale, channels), tmp_path / "a.tif"
    save_values(path, image, scale)
    np.testing.assert_array_equal(by_tags(path), image.transpose(1, 2, 0))
    tags = tags_of(path)
    ends = (340, 341) if scale == FLOATS else (280, 281)
    said = [np.atleast_1d(tags[number]).tolist() for number in ends]
    assert said == [[scale.low] * channels, [scale.high] * channels]
    if channels == 1 or (scale == USUAL and channels in (3, 4)):
        np.testing.assert_array_equal(by_pillow(path), image.transpose(1, 2, 0))


@pytest.mark.parametrize("scale", [USUAL, TWELVE, FLOATS], ids=str)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 16])
def test_tifffile_reads_it(scale: Scale, channels: int, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    image, path = ramp(scale, channels), tmp_path / "a.tif"
    save_values(path, image, scale)
    found = tifffile.imread(path)
    assert found.dtype == image.dtype
    np.testing.assert_array_equal(found.reshape(5, 7, channels), image.transpose(1, 2, 0))


def test_npy_is_an_array_with_channels_last(tmp_path: Path) -> None:
    save_values(tmp_path / "a.npy", ramp(FLOATS, 5), FLOATS)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), ramp(FLOATS, 5).transpose(1, 2, 0))


def test_the_format_follows_from_the_values(tmp_path: Path) -> None:
    chosen = [format_of_values(scale, channels) for scale in (USUAL, TWELVE, FLOATS) for channels in (1, 2, 3, 4, 5)]
    assert chosen == ["png", "tiff", "png", "png", "tiff"] * 2 + ["tiff"] * 5
    assert format_of_values(USUAL, 3, "npy") == "npy"
    for scale, channels, word in ((FLOATS, 1, "floats"), (USUAL, 2, "2 channels")):
        with pytest.raises(OutputError, match=word):
            format_of_values(scale, channels, "png")
    with pytest.raises(OutputError, match="jpeg"):
        format_of_values(USUAL, 1, "jpeg")
    assert not holds_values(Path("a.jpg"), USUAL, 3)


def test_what_a_format_does_not_hold_is_shown_in_8_bits(tmp_path: Path) -> None:
    image = ramp(TWELVE, 1)
    assert not save_single(tmp_path / "a.bmp", image, TWELVE)
    np.testing.assert_array_equal(by_pillow(tmp_path / "a.bmp"), TWELVE.view_array(image[None])[0].transpose(1, 2, 0))
    assert not save_images(tmp_path / "b.png", [image, image], TWELVE)
    assert by_pillow(tmp_path / "b.png").dtype == np.uint8
    assert save_images(tmp_path / "c.png", [image], TWELVE)
    assert by_pillow(tmp_path / "c.png").max() == 4095
    assert save_single(tmp_path / "d.jpg", np.zeros((3, 8, 8), np.uint8))


def test_false_colours() -> None:
    white = np.full((1, 1, 2, 2), 255, np.uint8)
    for channels in (1, 2, 5, 16):
        assert (false_colour(np.repeat(white, channels, 1)) == 255).all()
    two = np.zeros((1, 2, 1, 2), np.uint8)
    two[0, 0, 0, 0] = two[0, 1, 0, 1] = 200
    assert false_colour(two)[0, :, 0].T.tolist() == [[200, 0, 200], [0, 200, 0]]
    six = np.eye(6, dtype=np.uint8).reshape(1, 6, 1, 6) * 250
    hues = false_colour(six)[0, :, 0].T
    assert len({tuple(hue) for hue in hues.tolist()}) == 6  # each channel has a colour of its own
    assert hues[0].tolist() == [83, 0, 0]
    colour = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4), np.uint8)
    assert false_colour(colour) is not None
    np.testing.assert_array_equal(false_colour(colour), colour)


@pytest.mark.parametrize("channels", [2, 5, 16])
def test_grids_and_pictures_are_in_false_colours(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, channels, 4, 4), np.uint8)
    drawn = grid(images, 3)
    np.testing.assert_array_equal(drawn[:, 2:6, 2:6], false_colour(images)[0])
    assert picture(drawn).mode == picture(images[0]).mode == "RGB"


def test_mid_grey_is_of_the_scale() -> None:
    everywhere = np.ones((5, 7), bool)
    assert (hidden(ramp(USUAL, 1), everywhere) == 128).all()
    assert (hidden(ramp(TWELVE, 1), everywhere, TWELVE) == 2048).all()
    assert hidden(ramp(FLOATS, 1), everywhere, FLOATS).dtype == np.float32
