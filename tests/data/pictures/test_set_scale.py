"""Pictures of 16 bits, 32 bits and floats: of which none would be seen as it is meant, they are refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from command import Ddpm
from picture_files import write_folder
from PIL import Image

from ddpm_cli.data.images import Dataset
from ddpm_cli.data.pictures import survey
from ddpm_cli.data.pictures.cache import load_pictures
from ddpm_cli.data.pictures.decode import Levels
from ddpm_cli.data.pictures.settings import PictureSettings
from ddpm_cli.data.sources.folder import scan_folder
from ddpm_cli.data.sources.one_picture import read_mask, read_picture, read_reduced
from ddpm_cli.errors import DataError


def ramp(low: float, high: float, kind: type = np.float32) -> np.ndarray:
    return np.linspace(low, high, 64).reshape(8, 8).astype(kind)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def load(root: Path, **pictures: np.ndarray) -> Dataset:
    for name, pixels in pictures.items():
        place, _, suffix = name.rpartition("_")
        Image.fromarray(pixels).save(root / f"{place}.{suffix}")
    return load_pictures(scan_folder(root), PictureSettings(held_out=0))


REFUSED = {
    "a float above 1 beside others": ({"a_tif": ramp(0, 1), "b_tif": ramp(0, 1.02)}, r"a\.tif holds floats from 0 to 1, .* b\.tif"),
    "a float above 1 alone": ({"a_tif": ramp(0, 1.02)}, r"a\.tif holds floats from 0 to 1\.01\d*, but white would be 255"),
    "floats from -1 to 1": ({"a_tif": ramp(0, 1), "b_tif": ramp(-1, 1)}, r"b\.tif holds floats from -1 to 1: those below 0"),
    "twelve bits in sixteen": ({"a_png": ramp(0, 4095, np.uint16)}, r"from 0 to 4,095, but white would be 65,535"),
    "a scan up to 1200": ({"a_tif": ramp(0, 1200, np.uint16)}, r"16-bit numbers from 0 to 1,200"),
    "twelve bits beside eight": (
        {"a_png": ramp(0, 4095, np.uint16), "b_png": ramp(0, 255, np.uint8)},
        r"a\.png holds 16-bit numbers from 0 to 4,095",
    ),
    "another order of bytes": ({"a_tif": ramp(0, 1200, np.dtype(">u2"))}, r"16-bit numbers from 0 to 1,200"),
    "whole numbers of 32 bits": ({"a_tif": ramp(0, 255, np.int32)}, r"32-bit numbers from 0 to 255, but white would be 65,535"),
    "of two scales": ({"a_tif": ramp(0, 65000, np.int32), "b_tif": ramp(0, 1e9, np.int32)}, r"65,535 would be .* 2,147,483,647"),
    "eight bits that are labels": ({"a_png": ramp(0, 1, np.uint8), "b_bmp": ramp(0, 1, np.uint8)}, r"8-bit .* 0 to 1, but white"),
    "eight dark bits": (
        {"a_png": ramp(0, 20, np.uint8), "b_png": ramp(0, 9, np.uint8)},
        r"a\.png holds 8-bit numbers from 0 to 20,",
    ),
    "below 0": ({"a_tif": ramp(-1000, 30000, np.int32)}, r"from -1,000 to 30,000: those below 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_seen_wrongly_is_refused_with_a_remedy_that_works(root: Path, tmp_path: Path, case: str) -> None:
    pictures, message = REFUSED[case]
    with pytest.raises(DataError, match=message) as refused:
        load(root, **pictures)
    snippet = refused.value.remedy.partition("each by: ")[2]
    (tmp_path / "new").mkdir()
    for path in root.iterdir():
        names = {"OLD": path, "NEW": tmp_path / "new" / f"{path.stem}.png"}
        if path.name != "b.png" or "eight dark" in case:
            exec(snippet, names)
    images = load(tmp_path / "new").train.images
    assert (images.min(), images.max()) == (0, 255)


ACCEPTED = {
    "sixteen bits beside eight": {"a_png": ramp(0, 65535, np.uint16), "b_png": ramp(0, 255, np.uint8)},
    "a dark one beside a bright one": {"a_png": ramp(0, 65535, np.uint16), "b_png": ramp(0, 900, np.uint16)},
    "a black one": {"a_tif": ramp(0, 200), "b_tif": ramp(0, 0)},
    "all black": {"a_tif": ramp(0, 0), "b_tif": ramp(0, 0, np.uint16)},
    "a little below 0": {"a_tif": ramp(-0.001, 1)},
    "each kind with its own white": {"a_tif": ramp(0, 1), "b_tif": ramp(0, 60000, np.int32), "c_png": ramp(0, 65535, np.uint16)},
    "a dark one of eight bits": {"a_png": ramp(0, 9, np.uint8), "b_png": ramp(0, 255, np.uint8)},
    "dark ones of eight bits beside others": {"a_png": ramp(0, 9, np.uint8), "b_png": ramp(0, 65535, np.uint16)},
    "black ones of eight bits": {"a_png": ramp(0, 0, np.uint8)},
    "sixteen bits, some dark": {f"a{high}_png": ramp(0, high, np.uint16) for high in (65000, 60000, 4000, 3900, 5000)},
}


BRIGHTEST = {"a black one": 200, "all black": 0, "black ones of eight bits": 0, "sixteen bits, some dark": 253}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_has_one_white_is_taken(root: Path, case: str) -> None:
    pictures = ACCEPTED[case]
    dataset = load(root, **pictures)
    assert len(dataset.train) == len(pictures)
    assert dataset.train.images.max() == BRIGHTEST.get(case, 255)


def test_pictures_that_are_left_out_decide_nothing(root: Path) -> None:
    write_folder(root, 3, shape=(9, 9))
    Image.fromarray(np.full((4, 4), 1200, np.uint16)).save(root / "small.png")
    with pytest.raises(DataError, match="1,200"):
        load_pictures(scan_folder(root), PictureSettings(size=(4, 4)))
    assert len(load_pictures(scan_folder(root), PictureSettings(size=(9, 9), small="skip", held_out=0)).train) == 3


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 1), (6, 3)])
def test_what_pillow_cuts_to_eight_bits_is_held_to_the_same(root: Path, colour_type: int, channels: int) -> None:
    """Colours and alpha of 16 bits, as PNG holds them; Pillow writes none, so that the bytes are put together here."""
    (root / "bright.png").write_bytes(deep_png(colour_type, 65535))
    assert len(load_pictures(scan_folder(root), PictureSettings(held_out=0)).train) == 1
    (root / "bright.png").write_bytes(deep_png(colour_type, 4095))
    with pytest.raises(DataError, match=r"bright\.png holds 16-bit numbers from 3,855 to 3,855, but") as refused:
        load_pictures(scan_folder(root), PictureSettings(held_out=0))
    exec(refused.value.remedy.partition("each by: ")[2], {"OLD": root / "bright.png", "NEW": root / "bright.png"})
    images = load_pictures(scan_folder(root), PictureSettings(held_out=0)).train.images
    assert images.shape[1] == channels
    assert (images == 255).all()


@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_a_set_of_twelve_and_of_sixteen_bits_is_refused(root: Path, tmp_path: Path, kind: str) -> None:
    for number, high in enumerate((4095, 4001, 3600, 1200, 65535, 50000)):
        path = root / f"{number}.png"
        if kind == "grey":
            Image.fromarray(ramp(0, high, np.uint16)).save(path)
        else:
            path.write_bytes(deep_png(2, high))
    with pytest.raises(
        DataError, match=r"4 pictures of 16-bit numbers do not exceed .* \(0\.png, 1\.png, 2\.png and 1 more\)"
    ) as refused:
        load_pictures(scan_folder(root), PictureSettings(held_out=0))
    for number in range(4):
        path = root / f"{number}.png"
        exec(refused.value.remedy.partition("each by: ")[2], {"OLD": path, "NEW": path})
    images = load_pictures(scan_folder(root), PictureSettings(held_out=0)).train.images
    assert len(images) == 6
    assert sorted(images.max((1, 2, 3)).tolist())[-3:] == ([249, 255, 255] if kind == "grey" else [255] * 3)


def test_of_a_bright_set_one_picture_is_looked_into(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr(survey, "values_of", lambda *about: looked.append(about[-1]) or Levels(8, 0, 255))
    write_folder(root, 40, shape=(4, 4))
    load_pictures(scan_folder(root), PictureSettings(held_out=0))
    assert len(looked) == 1


def test_grey_of_sixteen_bits_with_alpha_is_grey(root: Path) -> None:
    (root / "a.png").write_bytes(deep_png(4, 40_000))
    write_folder(root, 3, shape=(8, 8))
    dataset = load_pictures(scan_folder(root), PictureSettings(held_out=0))
    assert dataset.image_shape == (1, 8, 8)
    assert (dataset.train.images == 40_000 >> 8).reshape(4, -1).all(1).sum() == 1


def deep_png(colour_type: int, value: int) -> bytes:
    """8x8 pixels of one value, 16 bits each (PNG, section 11.2): 2 is RGB, 4 grey and 6 RGB with alpha, here opaque."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    values = {2: [value] * 3, 4: [value, 65535], 6: [*[value] * 3, 65535]}[colour_type]
    pixel = struct.pack(f">{len(values)}H", *values)
    rows = zlib.compress((b"\0" + pixel * 8) * 8)
    head = struct.pack(">2I5B", 8, 8, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_picture_that_a_person_names_is_held_to_the_same(root: Path) -> None:
    for name, values in (("twelve.png", ramp(0, 4095, np.uint16)), ("signed.tif", ramp(-1, 1)), ("above.tif", ramp(0, 1.02))):
        Image.fromarray(values).save(root / name)
        for read in (lambda p: read_picture(p, (1, 8, 8)), lambda p: read_mask(p, (8, 8)), lambda p: read_reduced(p, 128)):
            with pytest.raises(DataError, match=re.escape(name)):
                read(root / name)
    Image.fromarray(ramp(0, 65535, np.uint16)).save(root / "sixteen.png")
    assert read_picture(root / "sixteen.png", (1, 8, 8)).max() == 255


def test_check_and_train_say_the_same(root: Path, ddpm_here: Ddpm) -> None:
    write_folder(root, 4, shape=(8, 8))
    Image.fromarray(ramp(-1, 1)).save(root / "signed.tif")
    checked = ddpm_here("data", "check", str(root), "--json")
    assert checked.returncode == 0
    training = json.loads(checked.stdout)["training"]
    trained = ddpm_here("train", "--data", str(root), "--device=cpu", "--dry-run")
    assert trained.returncode == 2
    flat = " ".join(trained.stderr.split())
    assert training["refused"] in flat
    assert "signed.tif holds floats from -1 to 1: those below 0 would be cut off." in flat
    assert " ".join(training["remedy"].split()) in flat
