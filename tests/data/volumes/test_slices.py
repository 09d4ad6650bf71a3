"""Scans as a data set: series, classes, what is held out, sizes, and what is refused or left out."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import TINY
from scan_files import NAME, write_dicom, write_nifti, write_tiff

from ddpm_cli.cli.app import run
from ddpm_cli.config.resolve.data_choice import data_flags
from ddpm_cli.data.sources.array_sets import ArraySet
from ddpm_cli.data.volumes.slices import SliceSettings, load_slices, read_slices
from ddpm_cli.errors import DataError

for package in ("nibabel", "pydicom", "tifffile"):
    pytest.importorskip(package)
RNG = np.random.default_rng(0)


def noise(*shape: int, kind: type = np.uint8) -> np.ndarray:
    return RNG.integers(0, 256, shape).astype(kind)


def read(path: Path, **settings: Any) -> ArraySet:
    return read_slices(path, SliceSettings(**settings))[0]


def text(found: ArraySet) -> str:
    return " ".join(found.notices)


# --------------------------------------------------------------------------------------------------------- what is found


def test_a_series_is_in_the_order_of_its_places(tmp_path: Path) -> None:
    """By position, not by name or number; a second series beside it is a scan of its own, files without pictures are none."""
    slices = noise(5, 6, 6)
    for number, z in enumerate((3, 1, 4, 0, 2)):
        write_dicom(tmp_path / f"IM{number:04}", slices[z], z=z * 2.5 - 4, number=9 - number)
    other = noise(3, 6, 6)
    for number in range(3):
        write_dicom(tmp_path / f"more{9 - number}.dcm", other[number], series="1.2.4", number=number)
    pixels = noise(6, 6)
    write_dicom(tmp_path / "report.dcm", pixels, rows=0)
    (tmp_path / "readme.txt").write_text("text")
    found = read(tmp_path, held_out=0)
    np.testing.assert_array_equal(found.train.images, np.concatenate([slices, other]))
    assert found.test is None
    assert "Left 2 files alone that are no scans" in text(found)


def test_whole_scans_are_held_out(tmp_path: Path) -> None:
    scans = [noise(4, 5, 6) for _ in range(6)]
    for number, scan in enumerate(scans):
        write_nifti(tmp_path / f"{number}.nii.gz", scan, np.eye(4))
    write_nifti(tmp_path / "copy.nii", scans[0], np.eye(4))
    found = read(tmp_path, held_out=0.4)
    assert found.test is not None
    sides = [{image.tobytes() for image in part.images} for part in (found.train, found.test)]
    assert not sides[0] & sides[1]
    upright = [{np.ascontiguousarray(image).tobytes() for image in scan[::-1, ::-1].T} for scan in scans]
    assert all(whole <= sides[0] or whole <= sides[1] for whole in upright)
    assert f"Held out {len(found.test.images) // 6} scan" in text(found)
    again = read(tmp_path, held_out=0.4, size=(4, 4))
    assert again.test is not None
    assert len(again.test.images) == len(found.test.images)  # the choice does not hang on the size


def test_of_one_scan_the_end_is_held_out(tmp_path: Path) -> None:
    scan = noise(4, 5, 20)
    found = read(write_nifti(tmp_path / "a.nii", scan, np.eye(4)))
    assert found.test is not None
    upright = scan[::-1, ::-1].T
    np.testing.assert_array_equal(found.train.images, upright[:18])
    np.testing.assert_array_equal(found.test.images, upright[18:])
    assert "only one scan" in text(found)
    assert "last 2 slices of 20 are held out" in text(found)


def test_empty_slices_are_left_out(tmp_path: Path) -> None:
    scan = noise(4, 5, 6)
    scan[:, :, 2:4] = 7
    write_nifti(tmp_path / "a.nii", scan, np.eye(4))
    found = read(tmp_path, held_out=0)
    assert len(found.train.images) == 4
    assert "Left out 2 slices of one value each" in text(found)
    assert len(read(tmp_path, held_out=0, skip_empty=False).train.images) == 6


def test_folders_are_classes_unless_each_holds_one_scan(tmp_path: Path) -> None:
    for name in ("sick/1.nii", "sick/2.nii", "well/deep/3.nii"):
        (tmp_path / "classes" / name).parent.mkdir(parents=True, exist_ok=True)
        write_nifti(tmp_path / "classes" / name, noise(4, 4, 3), np.eye(4))
    found = read(tmp_path / "classes", held_out=0)
    assert found.class_names == ("sick", "well")
    assert found.train.labels is not None
    assert found.train.labels.tolist() == [0] * 6 + [1] * 3
    for number in range(3):
        (tmp_path / "people" / str(number)).mkdir(parents=True)
        for place in range(4):
            write_dicom(tmp_path / "people" / str(number) / f"{place}.dcm", noise(4, 4), series=f"1.{number}", number=place)
    found = read(tmp_path / "people", held_out=0)
    assert (found.class_names, len(found.train.images)) == ((), 12)
    assert "Each of the 3 folders" in text(found)


def test_a_folder_to_hold_out(tmp_path: Path) -> None:
    for name in ("train/a.nii", "train/b.nii", "test/c.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_nifti(tmp_path / name, noise(4, 4, 3), np.eye(4))
    found = read(tmp_path)
    assert found.test is not None
    assert (len(found.train.images), len(found.test.images)) == (6, 3)


def test_another_axis_of_a_stack(tmp_path: Path) -> None:
    pages = noise(3, 4, 5)
    path = write_tiff(tmp_path / "a.tif", *pages)
    np.testing.assert_array_equal(read(path, held_out=0, axis=2).train.images, pages.transpose(2, 0, 1))


def test_resizing_keeps_values_and_depth(tmp_path: Path) -> None:
    """A plane of one slope is one after it, in the middle, and nothing leaves the range of what there was."""
    ramp = np.tile(np.arange(64, dtype=np.uint16) * 100, (48, 1))
    write_tiff(tmp_path / "a.tif", ramp, ramp.T[:, :40], noise(64, 64, kind=np.uint16) * np.uint16(250))
    found = read(tmp_path / "a.tif", held_out=0, size=(16, 16))
    images = found.train.images
    assert (images.shape, images.dtype) == ((3, 16, 16), np.uint16)
    steps = np.diff(images[0].astype(int), axis=1)[:, 3:-3]
    assert np.abs(steps - 300).max() <= 1
    assert images[0].max() <= 6300


def test_the_range_is_that_which_all_say(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", noise(4, 4, kind=np.uint16), window=(100, 101), series="1.1")
    write_dicom(tmp_path / "b.dcm", noise(4, 4, kind=np.uint16), window=(200, 101), series="1.2")
    found = read(tmp_path, held_out=0)
    assert found.said_range == (49.5, 249.5)
    assert "name 2 windows" in text(found)
    write_dicom(tmp_path / "c.dcm", noise(4, 4, kind=np.uint16), series="1.3")
    found = read(tmp_path, held_out=0)
    assert found.said_range is None
    assert "Only some of the scans" in text(found)


# -------------------------------------------------------------------------------------------------------- bad and hostile


def damaged(folder: Path) -> dict[str, str]:
    """Files that cannot be read, and a word of why."""
    write_nifti(folder / "large.nii", noise(4, 4, 4), dim=(3000, 3000, 300))
    write_nifti(folder / "large.nii.gz", noise(4, 4, 4), dim=(30000, 30000, 300))
    (folder / "empty.nii").write_bytes(b"")
    whole = write_nifti(folder / "cut.nii.gz", noise(40, 40, 4)).read_bytes()
    (folder / "cut.nii.gz").write_bytes(whole[:-900])
    (folder / "no.nii").write_text("no scan at all" * 99)
    notes = bytearray(write_nifti(folder / "notes.nii", noise(4, 4, 4)).read_bytes())
    struct.pack_into("<f", notes, 108, 3e8)
    (folder / "notes.nii.gz").write_bytes(gzip.compress(notes))
    (folder / "notes.nii").unlink()
    nan = np.full((4, 4, 4), np.nan, np.float32)
    write_nifti(folder / "nan.nii", nan)
    write_dicom(folder / "rows.dcm", noise(8, 8), rows=60000)
    write_dicom(folder / "deflated.dcm", noise(8, 8), syntax="1.2.840.10008.1.2.1.99")
    write_dicom(folder / "packed.dcm", noise(8, 8), syntax="1.2.840.10008.1.2.4.80")
    (folder / "text.dcm").write_text("no scan" * 99)
    write_dicom(folder / "zero.dcm", noise(8, 8), rescale=("0", "1"))
    write_dicom(folder / "name.dcm", noise(8, 8), (0x0028, 0x0008, b"IS", NAME))
    circle = bytearray(write_tiff(folder / "circle.tif", noise(4, 4), noise(4, 4)).read_bytes())
    circle[-4:] = circle[4:8]
    (folder / "circle.tif").write_bytes(circle)
    (folder / "cut.tif").write_bytes(write_tiff(folder / "cut.tif", noise(40, 40), noise(40, 40)).read_bytes()[:-60])
    large = write_tiff(folder / "wide.tif", noise(4, 4)).read_bytes()
    (folder / "wide.tif").write_bytes(large.replace(struct.pack("<HHII", 256, 3, 1, 4), struct.pack("<HHII", 256, 4, 1, 10**8)))
    return {
        "large.nii": "declares 2,700,000,000 bytes",
        "large.nii.gz": "declares 270,000,000,000 bytes",
        "empty.nii": "is no NIfTI",
        "cut.nii.gz": "is cut off or damaged",
        "no.nii": "is no NIfTI",
        "notes.nii.gz": "begin at byte 3e+08",
        "nan.nii": "not finite",
        "rows.dcm": "declares 480,000 bytes",
        "deflated.dcm": "is deflated",
        "packed.dcm": "wants a plug-in: pip install pylibjpeg",
        "text.dcm": "is no DICOM file",
        "zero.dcm": "rescaled by what is no number, or by 0",
        "name.dcm": "is damaged",
        "circle.tif": "lead in a circle",
        "cut.tif": "cut off",
        "wide.tif": "declares 400,000,000 bytes",
    }


def test_what_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    reasons = damaged(tmp_path)
    write_nifti(tmp_path / "good.nii", noise(4, 4, 9), np.eye(4))
    found, unreadable = read_slices(tmp_path, SliceSettings())
    assert unreadable.keys() == reasons.keys()
    assert {name: reason for name, reason in unreadable.items() if reasons[name] not in reason} == {}
    assert "Left out 16 scan files" in text(found)
    assert len(found.train.images) == 8
    assert len(load_slices(tmp_path, SliceSettings()).unreadable) == 16
    with pytest.raises(DataError, match=r"16 scan files in .* cannot be read") as caught:
        read(tmp_path, strict=True)
    assert "--strict" in caught.value.remedy
    assert NAME not in str(caught.value) + str(unreadable)


def mixed_sizes(folder: Path) -> None:
    write_nifti(folder / "a.nii", noise(4, 4, 3), np.eye(4))
    write_nifti(folder / "b.nii", noise(6, 5, 3), np.eye(4))


def mixed_channels(folder: Path) -> None:
    write_tiff(folder / "a.tif", noise(4, 4))
    write_tiff(folder / "b.tif", noise(4, 4, 3), photometric=2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (mixed_sizes, ["4x4 (a.nii)", "5x6 (b.nii)", "--size 4"]),
        (mixed_channels, ["differ in their channels: 1 (a.tif), 3 (b.tif)"]),
        (lambda folder: write_nifti(folder / "a.nii", np.zeros((4, 4, 3), np.uint8)), ["All 3 slices", "data.skip_empty=false"]),
        (lambda folder: write_nifti(folder / "a.nii", noise(4, 4, 1)), ["only one slice", "data.held_out=0"]),
        (lambda folder: (folder / "a.txt").write_text("a"), ["no scans in the folder", "only 1 file", ".nii"]),
        (lambda folder: (folder / "a.nii").write_text("a"), ["a.nii is no NIfTI file"]),
        (lambda folder: write_tiff(folder / "a.tif", noise(4, 4), noise(6, 4)), ["4x4, 6x4", "--size 4"]),
    ],
)
def test_what_makes_no_data_set_is_refused(tmp_path: Path, make: Any, words: list[str]) -> None:
    make(tmp_path)
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert [word for word in words if word not in str(caught.value)] == []


def test_links_that_lead_out_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "in" / ".store").mkdir(parents=True)
    write_nifti(tmp_path / "out.nii", noise(4, 4, 3), np.eye(4))
    write_nifti(tmp_path / "in" / ".store" / "object", noise(4, 4, 3), np.eye(4))
    (tmp_path / "in" / "a.nii").symlink_to("../out.nii")
    (tmp_path / "in" / "b.nii").symlink_to(".store/object")
    found = read(tmp_path / "in", held_out=0)
    assert len(found.train.images) == 3
    assert "Left 1 file alone" in text(found)


# ----------------------------------------------------------------------------------------------------------- the command


def test_one_word_finds_scans(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", noise(4, 4, 3))
    write_tiff(tmp_path / "pages.tif", noise(4, 4), noise(4, 4))
    write_tiff(tmp_path / "page.tif", noise(4, 4))
    (tmp_path / "series").mkdir()
    write_dicom(tmp_path / "series" / "IM1", noise(4, 4))
    (tmp_path / "pictures").mkdir()
    for name in ("a.png", "b.jpg", "c.tif"):
        (tmp_path / "pictures" / name).write_bytes(b"")
    kinds = {name: data_flags(str(tmp_path / name))["data.kind"][0] for name in ("a.nii.gz", "pages.tif", "series", "pictures")}
    assert kinds == {"a.nii.gz": "slices", "pages.tif": "slices", "series": "slices", "pictures": "folder"}
    with pytest.raises(DataError, match=r"page\.tif is a file, but none of .*, nor a scan"):
        data_flags(str(tmp_path / "page.tif"))


def test_check_says_what_training_would_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scans").mkdir()
    for number in range(4):
        write_dicom(tmp_path / "scans" / f"{number}.dcm", noise(8, 8), series=f"1.{number}")
    assert run(["data", "check", str(tmp_path / "scans"), "--json"], debug=False) == 0
    out, error = capsys.readouterr()
    report = json.loads(out)
    assert (report["training"]["shape"], report["readable"]) == ([1, 8, 8], 4)
    assert report["training"]["train_images"] + report["training"]["held_out_images"] == 4
    assert not [word for word in ("Doe", "Jane", "1.2.3.4") if word in out + error]


def test_training_keeps_nothing_of_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 8 bits, from a window of all of them: the images are trained on, and no tag is in any file of the run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    for number in range(12):
        write_dicom(tmp_path / "scans" / f"{number}.dcm", noise(8, 8), series="1.2.3.5", number=number)
    options = [option for option in TINY if not option.startswith("--data")]
    assert run(["train", *options, "--data=scans", "--steps=2", "--name=first"], debug=False) == 0
    info = json.loads((tmp_path / "runs" / "first" / "run.json").read_text())
    assert info["data"]["source"].startswith("the slices of the scans in the folder")
    for file in (tmp_path / "runs").rglob("*"):
        if file.is_file():
            assert not [word for word in (b"Doe", b"Jane", b"1.2.3.4", b"1.2.3.5") if word in file.read_bytes()], file.name
