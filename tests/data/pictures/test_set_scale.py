"""One scale for all pictures of a set, and their depth kept: what a file holds arrives value for value."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Ddpm
from deep_files import png_16, ppm_16, tiff
from picture_files import write_folder
from PIL import Image

from ddpm_cli.data.cache.loading import load_pictures
from ddpm_cli.data.images import Dataset, images_sha256
from ddpm_cli.data.pictures import survey
from ddpm_cli.data.pictures.decode import Levels
from ddpm_cli.data.pictures.settings import PictureSettings
from ddpm_cli.data.scale import USUAL, Scale
from ddpm_cli.data.sources.folder import scan_folder
from ddpm_cli.data.sources.one_picture import read_mask, read_picture, read_reduced
from ddpm_cli.errors import DataError


def ramp(low: float, high: float, kind: Any = np.float32, *channels: int) -> np.ndarray:
    """8x8, from the first value to the last."""
    return np.linspace(low, high, 64 * int(np.prod(channels or 1))).reshape(8, 8, *channels).astype(kind)


def png_8(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def load(root: Path, *pictures: bytes, **settings: Any) -> Dataset:
    for number, content in enumerate(pictures):
        suffix = "png" if content.startswith(b"\x89PNG") else "ppm" if content.startswith(b"P") else "tif"
        (root / f"{number}.{suffix}").write_bytes(content)
    return load_pictures(scan_folder(root), PictureSettings(**({"held_out": 0} | settings)))


def of_grey(values: np.ndarray) -> np.ndarray:
    return np.dstack([values, np.full_like(values, 65535)])


RAMPS: dict[str, tuple[bytes, np.ndarray, Scale]] = {
    "PNG 16": (png_16(ramp(0, 65535, np.uint16)), ramp(0, 65535, np.uint16), Scale(0, 65535, "uint16")),
    "PNG 16 in colour": (png_16(ramp(0, 65535, np.uint16, 3)), ramp(0, 65535, np.uint16, 3), Scale(0, 65535, "uint16")),
    "PNG 16, grey and alpha": (png_16(of_grey(ramp(0, 65535, np.uint16))), ramp(0, 65535, np.uint16), Scale(0, 65535, "uint16")),
    "PNG with sBIT": (png_16(ramp(0, 1000, np.uint16, 3), 12), ramp(0, 1000, np.uint16, 3), Scale(0, 4095, "uint16")),
    "PNG with sBIT, scaled up": (png_16(ramp(0, 65520, np.uint16), 12), ramp(0, 65520, np.uint16), Scale(0, 65535, "uint16")),
    "PNG with sBIT, scaled up, not bright": (
        png_16(ramp(0, 9e3, np.uint16), 12),
        ramp(0, 9e3, np.uint16),
        Scale(0, 65535, "uint16"),
    ),
    "TIFF 12 in 16": (tiff(ramp(0, 4095, np.uint16)), ramp(0, 4095, np.uint16), Scale(0, 4095, "uint16")),
    "TIFF that says 12 of 16": (tiff(ramp(9, 900, np.uint16), said=(0, 4095)), ramp(9, 900, np.uint16), Scale(0, 4095, "uint16")),
    "TIFF that says too little": (tiff(ramp(9, 900, np.uint16), said=(0, 1)), ramp(9, 900, np.uint16), Scale(9, 900, "uint16")),
    "TIFF 16 in colour": (tiff(ramp(0, 60000, np.uint16, 3)), ramp(0, 60000, np.uint16, 3), Scale(0, 65535, "uint16")),
    "TIFF, white is 0": (
        tiff(65535 - ramp(0, 65535, np.uint16), white_is_zero=True),
        ramp(0, 65535, np.uint16),
        Scale(0, 65535, "uint16"),
    ),
    "TIFF, white is 0, that says 12 of 16": (
        tiff(65535 - ramp(9, 900, np.uint16), said=(65535 - 4095, 65535), white_is_zero=True),
        ramp(9, 900, np.uint16),
        Scale(0, 4095, "uint16"),
    ),
    "TIFF of floats": (tiff(ramp(-1, 1)), ramp(-1, 1), Scale(-1, 1, "float32")),
    "TIFF of floats above 1": (tiff(ramp(0, 1.02)), ramp(0, 1.02), Scale(0, float(np.float32(1.02)), "float32")),
    "TIFF of floats anywhere": (tiff(ramp(-400, 90)), ramp(-400, 90), Scale(-400, 90, "float32")),
    "TIFF, signed 16": (tiff(ramp(-3000, 3000, np.int16)), ramp(-3000, 3000, np.int16), Scale(-3000, 3000, "float32")),
    "TIFF, signed 8": (tiff(ramp(-100, 100, np.int8)), ramp(-100, 100, np.int8), Scale(-128, 127, "float32")),
    "TIFF of 32 bits": (tiff(ramp(0, 2**32 - 256, np.uint32)), ramp(0, 2**32 - 256, np.uint32), Scale(0, 2**32 - 1, "float32")),
    "TIFF of 32 bits, with 8 in them": (tiff(ramp(0, 200, np.int32)), ramp(0, 200, np.int32), USUAL),
    "PPM": (ppm_16(ramp(0, 4095, np.uint16, 3), 4095), ramp(0, 4095, np.uint16, 3), Scale(0, 4095, "uint16")),
    "PGM": (ppm_16(ramp(5, 600, np.uint16), 1023), ramp(5, 600, np.uint16), Scale(0, 1023, "uint16")),
}


@pytest.mark.parametrize("case", RAMPS)
def test_a_ramp_arrives_value_for_value(root: Path, case: str) -> None:
    content, values, scale = RAMPS[case]
    dataset = load(root, content)
    image = dataset.train.images[0]
    assert dataset.scale == scale
    assert image.dtype == scale.stored
    expected = np.float32(values) if scale.stored == "float32" else values
    np.testing.assert_array_equal(image.transpose(1, 2, 0).squeeze(), expected)
    assert dataset.sha256 == images_sha256(dataset.train.images)
    assert len(dataset.notices) == (scale != USUAL)
    again = load_pictures(scan_folder(root), PictureSettings(held_out=0))
    assert (again.scale, again.sha256, again.notices) == (dataset.scale, dataset.sha256, dataset.notices)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_both_conventions_of_sbit_show_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    scan = [ramp(0, high, np.uint16) for high in (2**bits / 40, 2**bits / 4)]  # of which the first is dark in either
    files = {"low bits": scan, "scaled up": [(values << (16 - bits)) | (values >> (2 * bits - 16)) for values in scan]}
    seen = []
    for name, values in files.items():
        (tmp_path / name).mkdir()
        dataset = load(tmp_path / name, *(png_16(one, bits) for one in values))
        seen.append(dataset.scale.normalise(torch.from_numpy(dataset.train.images.astype(np.int32))))
    order = [np.argsort([float(image.max()) for image in images]) for images in seen]
    assert (seen[0][order[0]] - seen[1][order[1]]).abs().max() < 2 / (2**bits - 1)


RANGES: dict[str, tuple[Any, tuple[float, float], int]] = {
    "values": ((100.0, 2000.0), (100, 2000), 24),
    "dtype": ("dtype", (0, 65535), 0),
    "percentiles": ("1%..99%", (30, 2970), 2),
    "below 0": ((-5.0, 3000.0), (-5, 3000), 0),
}


@pytest.mark.parametrize("case", RANGES)
def test_a_range_that_is_asked_for_cuts_and_counts(root: Path, case: str) -> None:
    setting, (low, high), outside = RANGES[case]
    values = ramp(0, 3000, np.uint16)
    dataset = load(root, tiff(values), range=setting)
    assert (dataset.scale.low, dataset.scale.high) == (low, high)
    np.testing.assert_array_equal(dataset.train.images[0, 0], values.clip(low, high))
    assert any(f"{outside} values lie outside of" in notice for notice in dataset.notices) == (outside > 0)
    assert f"black is {low:,} and white is {high:,}" in dataset.notices[0]


def test_eight_bits_keep_key_and_bytes_and_a_range_has_its_own_entry(root: Path, tmp_path: Path) -> None:
    write_folder(root, 3, shape=(8, 8))
    dataset = load(root)
    (entry,) = (tmp_path / "cache" / "images").glob("*/entry.json")
    assert "scale" not in json.loads(entry.read_text())  # so that those of earlier versions are as good
    assert (dataset.scale, dataset.notices) == (USUAL, ())
    narrow = load(root, range=(10.0, 200.0))
    assert narrow.scale == Scale(10, 200, "uint8")
    np.testing.assert_array_equal(narrow.train.images, dataset.train.images.clip(10, 200))
    assert load(root, range=(-10.0, 300.0)).train.images.dtype == np.float32
    assert len(list((tmp_path / "cache" / "images").glob("*/entry.json"))) == 3


def test_masks_are_black_and_white_with_a_notice(root: Path) -> None:
    masks = [np.arange(64).reshape(8, 8) % 2, np.arange(64).reshape(8, 8) % 3 == 0]
    dataset = load(root, *(png_8(mask.astype(np.uint8)) for mask in masks))
    assert dataset.scale == Scale(0, 1, "uint8")
    assert dataset.train.images.max() == 1
    assert "black is 0 and white is 1, the set's own extremes" in dataset.notices[0]
    before = load(root, range="dtype")
    assert (before.scale, before.notices) == (USUAL, ())  # as a model of an earlier version was trained


def test_of_a_bright_set_one_picture_is_looked_into(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr(survey, "values_of", lambda *about: looked.append(about[-1]) or Levels(8, 0, 255))
    write_folder(root, 40, shape=(4, 4))
    load(root)
    assert len(looked) == 1


def test_eight_and_sixteen_bits_are_each_taken_from_black_to_white(root: Path) -> None:
    dataset = load(root, png_16(ramp(0, 65535, np.uint16)), png_8(ramp(0, 255, np.uint8)))
    assert dataset.scale == Scale(0, 65535, "uint16")
    found = {image.tobytes() for image in dataset.train.images}
    assert found == {ramp(0, 65535, np.uint16).tobytes(), (ramp(0, 255, np.uint8) * np.uint16(257)).tobytes()}


MIXED = {
    "twelve bits beside eight": (tiff(ramp(0, 4095, np.uint16)), png_8(ramp(0, 255, np.uint8))),
    "floats below 0 beside eight bits": (tiff(ramp(-1, 1)), png_8(ramp(0, 255, np.uint8))),
}


@pytest.mark.parametrize("case", MIXED)
def test_depths_without_a_scale_in_common_are_refused_until_one_is_given(root: Path, case: str) -> None:
    with pytest.raises(DataError, match="they have no scale in common") as refused:
        load(root, *MIXED[case])
    assert "data.range=LOW..HIGH" in refused.value.remedy
    dataset = load(root, *MIXED[case], range=(-1.0, 255.0))
    assert len(dataset.train) == 2
    assert dataset.scale == Scale(-1, 255, "float32")


def test_what_is_not_finite_is_unreadable(root: Path) -> None:
    values = ramp(0, 1)
    values[3, 3] = np.inf
    dataset = load(root, tiff(ramp(0, 1)), tiff(values))
    assert dataset.unreadable == ("1.tif",)
    assert len(dataset.train) == 1


def test_a_deep_picture_is_resized_without_a_detour_over_eight_bits(root: Path) -> None:
    values = ramp(1000, 1040, np.uint16).repeat(4, 0).repeat(4, 1)
    small = load(root, tiff(values), size=(8, 8)).train.images[0, 0]
    expected = np.asarray(Image.fromarray(values.astype(np.float32)).resize((8, 8), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(small, np.rint(expected.clip(1000, 1040)))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_transparency_of_deep_pictures(root: Path, channels: int) -> None:
    values = np.dstack([ramp(0, 65535, np.uint16, 3), np.full((8, 8), 13107, np.uint16)])  # a fifth
    image = load(root, png_16(values), channels=channels, background="black").train.images[0].transpose(1, 2, 0)
    seen = values[..., :3] @ [0.299, 0.587, 0.114] if channels < 3 else values[..., :3]
    seen = seen.reshape(8, 8, -1)
    expected = np.dstack([seen, values[..., 3]]) if channels in (2, 4) else 0.2 * seen
    np.testing.assert_allclose(image, expected, atol=1)


def test_grey_with_alpha_of_eight_bits(root: Path) -> None:
    values = np.dstack([ramp(0, 255, np.uint8), ramp(255, 0, np.uint8)])
    np.testing.assert_array_equal(load(root, png_8(values), channels=2).train.images[0].transpose(1, 2, 0), values)


@pytest.mark.parametrize("turn", range(1, 9))
def test_deep_pictures_are_turned_as_those_of_eight_bits(root: Path, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    images = []
    for kind, factor in ((np.uint8, 4), (np.uint16, 1000)):
        folder = root / str(factor)
        folder.mkdir()
        Image.fromarray(np.arange(48).reshape(6, 8).astype(kind) * kind(factor)).save(folder / "a.png", exif=exif)
        images.append(load(folder).train.images[0] // factor)
    np.testing.assert_array_equal(*images)


def test_pictures_of_more_channels_are_refused(root: Path) -> None:
    with pytest.raises(DataError, match="at most 4 channels, not 7"):
        load(root, png_8(ramp(0, 255, np.uint8)), channels=7)


def test_a_picture_that_a_person_names_is_seen_from_black_to_white(root: Path) -> None:
    for name, values in (("twelve.png", ramp(0, 4095, np.uint16)), ("signed.tif", ramp(-1, 1)), ("above.tif", ramp(0, 1.02))):
        (root / name).write_bytes(png_16(values) if name.endswith("png") else tiff(values))
        for read in (lambda p: read_picture(p, (1, 8, 8)), lambda p: read_mask(p, (8, 8)), lambda p: read_reduced(p, 128)):
            with pytest.raises(DataError, match="nothing says what is black and white"):
                read(root / name)
    values = ramp(0, 65535, np.uint16, 3)
    (root / "sixteen.png").write_bytes(png_16(values))
    np.testing.assert_allclose(read_picture(root / "sixteen.png", (3, 8, 8)).transpose(1, 2, 0), values / 257, atol=0.51)


def test_check_tells_the_scale_and_how_often_values_occur(root: Path, ddpm_here: Ddpm) -> None:
    for number in range(4):
        (root / f"{number}.tif").write_bytes(tiff(ramp(0, 1200 + number, np.uint16)))
    checked = ddpm_here("data", "check", str(root), "--set=data.range=100..1203", "--json")
    assert checked.returncode == 0, checked.stderr
    training = json.loads(checked.stdout)["training"]
    values = training["values"]
    assert (values["low"], values["high"], values["stored"]) == (100, 1203, "uint16")
    assert sum(values["counts"]) == 64 * training["train_images"]
    assert values["counts"][0] > 2 * values["counts"][5]  # what lies below 100 is cut to it
    assert "values of 3 pictures that were looked at lie outside of 100 to 1,203" in " ".join(training["notices"])
    shown = ddpm_here("data", "check", str(root)).stdout
    assert "0 (black) |" in shown
    assert "| 1,203 (white)" in shown


def test_a_range_that_does_not_rise_is_refused(root: Path, ddpm_here: Ddpm) -> None:
    write_folder(root, 3)
    for text in ("[200, 100]", "200..100", "90%..10%"):
        refused = ddpm_here("train", "--data", str(root), f"--set=data.range={text}", "--dry-run")
        assert refused.returncode == 2
        assert "is not below" in " ".join(refused.stderr.split())
