"""Colour profiles in pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from picture_files import display_p3, linear_grey, srgb, write_folder
from PIL import Image, ImageCms

from ddpm_cli.data.cache.loading import load_pictures
from ddpm_cli.data.pictures.decode import decode, decode_deep, read_header
from ddpm_cli.data.pictures.resizing import Wanted
from ddpm_cli.data.pictures.settings import PictureSettings
from ddpm_cli.data.sources.folder import scan_folder

P3_TO_SRGB = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
"""Of amounts of light, from the primaries of both and D65 (CSS Color 4, section 18)."""


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def light(values: np.ndarray) -> np.ndarray:
    v = values / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def screen(light: np.ndarray) -> np.ndarray:
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clip(1e-9) ** (1 / 2.4) - 0.055).clip(0, 1)


@pytest.mark.parametrize(("form", "far"), [("PNG", 1.5), ("TIFF", 1.5), ("JPEG", 4), ("WEBP", 6)])
def test_display_p3_becomes_srgb(form: str, far: float) -> None:
    colours = [(200, 80, 60), (128, 128, 128), (255, 255, 255), (40, 90, 160)]
    for colour in colours:
        content = encoded(Image.new("RGB", (16, 16), colour), form, icc_profile=display_p3())
        expected = screen(P3_TO_SRGB @ light(np.array(colour)))
        np.testing.assert_allclose(decode(content, (3, 16, 16), "white")[:, 5, 5], expected, atol=far)
        assert read_header(content).profile == "Display P3"
    assert np.allclose(screen(P3_TO_SRGB @ light(np.array([200, 80, 60]))), [216, 69, 50], atol=1)


def test_alpha_and_palettes_are_converted_too() -> None:
    plain = decode(encoded(Image.new("RGB", (4, 4), (200, 80, 60)), icc_profile=display_p3()), (3, 4, 4), "white")
    clear = encoded(Image.new("RGBA", (4, 4), (200, 80, 60, 77)), icc_profile=display_p3())
    assert decode(clear, (4, 4, 4), "white")[:, 0, 0].tolist() == [*plain[:, 0, 0].tolist(), 77]
    palette = encoded(Image.new("RGB", (4, 4), (200, 80, 60)).quantize(2), icc_profile=display_p3())
    np.testing.assert_array_equal(decode(palette, (3, 4, 4), "white"), plain)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_is_converted(mode: str) -> None:
    content = encoded(Image.fromarray(np.full((4, 4), 100, np.uint8)).convert(mode), icc_profile=linear_grey())
    header = read_header(content)
    assert (header.channels, header.profile) == (1, "Linear grey")
    np.testing.assert_allclose(decode(content, (1, 4, 4), "white"), screen(np.array(100 / 255)), atol=1)
    assert read_header(encoded(Image.new("L", (4, 4), 100), icc_profile=display_p3())).profile == ""  # whose greys are sRGB's


def test_of_more_than_eight_bits_a_profile_is_not_applied_and_told() -> None:
    content = encoded(Image.fromarray(np.full((4, 4), 25700, np.uint16)), icc_profile=linear_grey())
    header = read_header(content)
    assert (header.profile, header.strange_profile) == ("", True)
    values, _ = decode_deep(content, (1, 4, 4), "white", Wanted(0, 65535, "uint16"))
    assert (values == 25700).all()


def test_srgb_and_what_is_no_profile_change_nothing() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    for profile, strange in ((srgb(), False), (b"nonsense" * 20, True), (linear_grey(), True), (display_p3()[:300], True)):
        content = encoded(Image.fromarray(pixels), icc_profile=profile)
        header = read_header(content)
        assert (header.profile, header.strange_profile) == ("", strange)
        np.testing.assert_array_equal(decode(content, (3, 5, 7), "white").transpose(1, 2, 0), pixels)


def test_lab_keeps_its_own_meaning() -> None:
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(Image.new("RGB", (4, 4), "white"), to_lab)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    content = encoded(lab, "TIFF", icc_profile=profile)
    assert not read_header(content).strange_profile
    np.testing.assert_allclose(decode(content, (3, 4, 4), "white"), 255, atol=2)


def test_the_data_set_says_what_was_converted_and_what_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    root = write_folder(tmp_path / "in", 6)
    Image.new("RGB", (8, 8), (200, 80, 60)).save(root / "camera.png", icc_profile=display_p3())
    Image.new("RGB", (8, 8), (10, 80, 60)).save(root / "odd.png", icc_profile=b"nonsense")
    Image.new("RGB", (8, 8), (10, 80, 61)).save(root / "web.png", icc_profile=srgb())
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("blue", "red")]
    frames[0].save(root / "pages.tif", save_all=True, append_images=frames[1:])
    for _ in range(2):  # decoded, and found in the cache
        notices = load_pictures(scan_folder(root), PictureSettings()).notices
        assert len(notices) == 3
        assert "first page or frame of 1 picture" in notices[0]
        assert notices[0].endswith("pages.tif. What else is to be trained on belongs in files of its own.")
        assert notices[1].endswith("to sRGB, from Display P3: camera.png.")
        assert "profiles cannot be used: odd.png" in notices[2]
