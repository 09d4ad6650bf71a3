"""What is said of a picture before it is drawn against what Pillow then does."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.EpsImagePlugin import has_ghostscript

from ddpm_cli.errors import OutputError
from ddpm_cli.render.pictures.images import save_images, save_trajectory
from ddpm_cli.render.pictures.limits import require_grid, require_images, require_picture_name, require_trajectory

Image.init()
SUFFIXES = {form: suffix for suffix, form in sorted(Image.EXTENSION.items()) if form in Image.SAVE and form not in ("IM", "ICNS")}
"""But for one that Pillow is to drop, and one that takes seconds and comes in set sizes only."""
ALPHA = (4,)


def comes_back(path: Path, channels: int, size: tuple[int, int]) -> bool:
    """Whether a picture in a file is that which was written, as far as its format can be read."""
    form = Image.EXTENSION[path.suffix]
    if form not in Image.OPEN or (form == "EPS" and not has_ghostscript()):
        return path.stat().st_size > 0
    with Image.open(path) as read:
        alphas = set(read.convert("RGBA").getchannel("A").tobytes())
        return read.size == size and not (channels in ALPHA and alphas <= {0, 255})


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("form", sorted(SUFFIXES))
def test_what_is_promised_of_a_format_holds(form: str, channels: int, tmp_path: Path) -> None:
    path = tmp_path / f"x{SUFFIXES[form]}"
    images = np.random.default_rng(0).integers(0, 256, (2, channels, 20, 30), np.uint8)
    try:
        require_images(path, 2, images.shape[1:])
        promised = True
    except OutputError:
        promised = False
    try:
        save_images(path, images)
        kept = comes_back(path, channels, (66, 24))
    except (OutputError, ValueError):
        kept = False
    assert promised == kept
    if channels in ALPHA and form in ("BMP", "GIF", "PPM"):
        assert not promised
    if form in ("PNG", "TIFF", "WEBP", "JPEG2000") or (form == "JPEG" and channels in (1, 2, 3)):
        assert promised


LARGEST = (("WEBP", 16_383), ("JPEG", 65_500), ("GIF", 65_535), ("TGA", 65_535), ("SGI", 65_535))
"""Measured with Pillow 13.0."""


@pytest.mark.parametrize(("form", "most"), LARGEST)
@pytest.mark.parametrize("wide", [True, False])
def test_the_longest_side_of_a_format(form: str, most: int, wide: bool, capfd: pytest.CaptureFixture[str]) -> None:
    path = Path(f"x{SUFFIXES[form]}")
    require_images(path, 1, (1, 2, most) if wide else (1, most, 2))
    with pytest.raises(OutputError, match=f"{most + 1:,}.* pixels, which {form} cannot hold"):
        require_images(path, 1, (1, 2, most + 1) if wide else (1, most + 1, 2))
    assert capfd.readouterr() == ("", "")


def test_avif_may_write_what_cannot_be_read() -> None:
    if "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow writes no AVIF")
    content = io.BytesIO()
    Image.new("L", (32_769, 1)).save(content, format="AVIF")
    require_images(Path("x.avif"), 1, (3, 2, 32_768))
    with pytest.raises(OutputError, match="cannot be read again"):
        require_images(Path("x.avif"), 1, (3, 2, 32_769))


def test_grids_and_animations_end_where_nobody_could_open_them() -> None:
    require_grid(Path("x.png"), 198_000, (1, 28, 28))
    with pytest.raises(OutputError, match="more than the 178,956,970"):
        require_grid(Path("x.png"), 200_000, (1, 28, 28))
    require_trajectory(Path("x.gif"), 3_000, 60, (1, 28, 28))
    with pytest.raises(OutputError, match="60 times"):
        require_trajectory(Path("x.gif"), 4_000, 60, (1, 28, 28))
    with pytest.raises(OutputError, match="GIF cannot hold"):
        require_trajectory(Path("x.gif"), 2_200, 2, (1, 28, 28), columns=2_200)
    require_trajectory(Path("x.apng"), 2_200, 2, (1, 28, 28), columns=2_200)
    with pytest.raises(OutputError, match="more than the"):
        require_trajectory(Path("x.png"), 30_000, 60, (1, 28, 28))


def test_names_beside_rows_count(tmp_path: Path) -> None:
    names = ("m" * 1000, "x")
    require_grid(tmp_path / "x.webp", 2, (1, 30, 9_000), 1)
    with pytest.raises(OutputError, match="WEBP cannot hold"):
        require_grid(tmp_path / "x.webp", 2, (1, 30, 9_000), 1, names)
    frames = [np.zeros((2, 4, 5, 5), np.uint8)] * 2
    for name in ("x.gif", "x.apng", "x.png"):
        require_trajectory(tmp_path / name, 2, 2, (4, 5, 5), 1, ("a", "b"))
        save_trajectory(tmp_path / name, frames, 1, ("a", "b"))


@pytest.mark.parametrize("name", ["x.hdf", "x.grib", "x.xbm", "x.icns", "x.psd", "x.xyz"])
def test_formats_that_pillow_only_names_are_refused_at_once(name: str) -> None:
    with pytest.raises(OutputError, match="no picture format that can be written here"):
        require_picture_name(Path(name))
