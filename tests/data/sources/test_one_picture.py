"""Pictures that a person names for editing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from picture_files import broken_files, write_picture
from PIL import Image

from ddpm_cli.data.sources.one_picture import read_mask, read_picture
from ddpm_cli.errors import DataError

GREY, COLOUR = (1, 8, 6), (3, 8, 6)


def test_grey_and_colour_come_as_they_are(tmp_path: Path) -> None:
    grey, colour = write_picture(tmp_path / "g.png", 1, (8, 6)), write_picture(tmp_path / "c.png", 2, (8, 6, 3))
    pixels = np.asarray(Image.open(grey))
    assert np.array_equal(read_picture(grey, GREY), pixels[None])
    assert np.array_equal(read_picture(grey, COLOUR), np.stack([pixels] * 3))
    assert np.array_equal(read_picture(colour, COLOUR), np.asarray(Image.open(colour)).transpose(2, 0, 1))
    assert read_picture(colour, (4, 8, 6)).shape == (4, 8, 6)


def test_colours_become_grey_only_if_asked(tmp_path: Path) -> None:
    colour = write_picture(tmp_path / "c.png", 2, (8, 6, 3))
    with pytest.raises(DataError, match=r"in colour.*--resize"):
        read_picture(colour, GREY)
    assert read_picture(colour, GREY, resize=True).shape == GREY


def test_grey_that_is_stored_as_colour_is_grey(tmp_path: Path) -> None:
    pixels = np.asarray(Image.open(write_picture(tmp_path / "g.png", 1, (8, 6))))
    Image.fromarray(np.stack([pixels] * 3, -1)).save(tmp_path / "rgb.png")
    assert np.array_equal(read_picture(tmp_path / "rgb.png", GREY), pixels[None])


def test_another_size_is_refused_with_what_fits_or_brought_to_it(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "large.png", 1, (40, 60))
    with pytest.raises(DataError, match=r"large\.png is 40x60, .* images of 8x6\. Give one of 8x6, or let --resize"):
        read_picture(path, GREY)
    with pytest.raises(DataError, match="40x60"):
        read_mask(path, (8, 6))
    assert read_picture(path, GREY, resize=True).shape == GREY
    assert read_mask(path, (8, 6), resize=True).shape == (8, 6)


def test_a_picture_is_turned_as_exif_says_before_its_size_counts(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8), np.uint8)).save(tmp_path / "t.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "t.png", GREY)[0], np.rot90(np.asarray(Image.open(tmp_path / "t.png")), -1))


def test_what_is_transparent_shows_the_background_and_is_no_white_of_a_mask(tmp_path: Path) -> None:
    pixels = np.full((8, 6, 4), 255, np.uint8)
    pixels[:4, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    black = read_picture(tmp_path / "a.png", COLOUR, background="black")
    assert (black[:, :4] == 0).all()
    assert (black[:, 4:] == 255).all()
    assert np.array_equal(read_mask(tmp_path / "a.png", (8, 6)), pixels[..., 3] == 255)


def test_a_mask_is_white_from_the_middle_of_grey_on(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8)).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png", (1, 4)).tolist() == [[False, False, True, True]]
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(tmp_path / "black.png")
    with pytest.raises(DataError, match="nothing to fill"):
        read_mask(tmp_path / "black.png", (8, 6))


@pytest.mark.usefixtures("cost")
def test_what_is_no_picture_is_refused_by_name(tmp_path: Path) -> None:
    files = [tmp_path / "missing.png", tmp_path, tmp_path / "pipe.png"]
    os.mkfifo(files[-1])
    for number, (suffix, content) in enumerate(broken_files(8)):
        files.append(tmp_path / f"{number}.{suffix}")
        files[-1].write_bytes(content)
    for path in files:
        for resize in (False, True):
            with pytest.raises(DataError, match=str(path)):
                read_picture(path, GREY, resize=resize)


def test_a_model_of_two_channels_reads_no_picture(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 channels"):
        read_picture(write_picture(tmp_path / "g.png", 1, (8, 6)), (2, 8, 6))
