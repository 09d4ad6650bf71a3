from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_cli.build.data import build_dataset
from ddpm_cli.config.schema.data import ArraysData
from ddpm_cli.data.images import images_sha256
from ddpm_cli.data.pictures.check import check_images
from ddpm_cli.data.scale import USUAL, Scale
from ddpm_cli.data.sources.arrays import load_arrays
from ddpm_cli.data.sources.formats.reader import ArrayOptions
from ddpm_cli.errors import DataError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (30, 6, 5), np.uint8)
LAST = RNG.integers(0, 256, (30, 6, 5, 3), np.uint8)
FIRST = LAST.transpose(0, 3, 1, 2)
LABELS = np.arange(30) % 3


def images_of(dataset) -> set[bytes]:
    return {image.tobytes() for part in (dataset.train, dataset.test) for image in part.images}


@pytest.mark.parametrize(("array", "expected"), [(GREY, GREY[:, None]), (LAST, FIRST), (np.ascontiguousarray(FIRST), FIRST)])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_layouts(tmp_path: Path, suffix: str, array: np.ndarray, expected: np.ndarray) -> None:
    path = tmp_path / f"mine{suffix}"
    np.save(path, array) if suffix == ".npy" else np.savez(path, images=array)
    dataset = load_arrays(path)
    assert images_of(dataset) == {image.tobytes() for image in expected}
    assert dataset.image_shape == expected.shape[1:]
    assert dataset.train.class_names == ()
    assert dataset.name == "mine"
    assert dataset.sha256 == images_sha256(dataset.train.images)
    assert len(dataset.test) > 0
    whole = load_arrays(path, held_out=0.0)
    np.testing.assert_array_equal(whole.train.images, expected)
    assert len(whole.test) == 0


def test_labels_go_with_their_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=GREY, labels=LABELS)
    dataset = load_arrays(tmp_path / "a.npz", held_out=0.3)
    assert dataset.train.class_names == ("0", "1", "2")
    label_of = {image.tobytes(): label for image, label in zip(GREY, LABELS.tolist(), strict=True)}
    for part in (dataset.train, dataset.test):
        assert [label_of[image.tobytes()] for image in part.images] == part.labels.tolist()


def test_copies_land_on_one_side(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.concatenate([GREY, GREY]))
    dataset = load_arrays(tmp_path / "a.npy", held_out=0.5)
    train, test = ({image.tobytes() for image in part.images} for part in (dataset.train, dataset.test))
    assert not train & test
    assert len(train | test) == 30


def test_a_split_of_its_own(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=LAST, labels=LABELS, test_images=LAST[:4], test_labels=LABELS[:4])
    dataset = load_arrays(tmp_path / "a.npz")
    np.testing.assert_array_equal(dataset.train.images, FIRST)
    np.testing.assert_array_equal(dataset.test.images, FIRST[:4])
    assert dataset.test.labels.tolist() == [0, 1, 2, 0]


def test_an_npy_file_that_is_not_split_is_mapped_and_never_written_to(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", GREY)
    images = load_arrays(tmp_path / "a.npy", held_out=0.0).train.images
    assert isinstance(images, np.memmap)
    images[:] = 0
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), GREY)


@pytest.mark.parametrize(("layout", "shape"), [("NHWC", (3, 4, 4)), ("NCHW", (4, 4, 3))])
def test_an_ambiguous_layout_must_be_said(tmp_path: Path, layout: str, shape: tuple[int, int, int]) -> None:
    np.save(tmp_path / "a.npy", RNG.integers(0, 256, (9, 4, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"\[9, 4, 4, 3\] may have their channels last or first") as caught:
        load_arrays(tmp_path / "a.npy")
    assert "data.layout=NHWC" in caught.value.remedy
    assert load_arrays(tmp_path / "a.npy", ArrayOptions(layout=layout)).image_shape == shape  # type: ignore[arg-type] # parametrised


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"images": GREY, "test_images": GREY.astype(np.uint16)}, "images are uint8 and test_images uint16"),
        ({"images": np.full((3, 4, 4), np.nan)}, "images are float64 with values that are not finite"),
        ({"images": GREY[0]}, "rows of 5 values, which are no square images"),
        ({"images": GREY[:0]}, r"shape \[0, 6, 5\] are empty"),
        ({"images": RNG.integers(0, 256, (4, 60, 50, 17), np.uint8)}, "have no 1 to 16 channels"),
        ({"pictures": GREY}, r"of no format that is known: it holds pictures uint8 \[30, 6, 5\]"),
        ({"images": GREY, "labels": LABELS[:5]}, "not 30 whole numbers"),
        ({"images": GREY, "labels": LABELS / 2}, "not 30 whole numbers"),
        ({"images": GREY, "labels": LABELS - 1}, "labels go from -1 to 1"),
        ({"images": GREY, "labels": LABELS * 10**6}, "labels go from 0 to 2000000, for 30 images"),
        ({"images": GREY, "test_images": GREY[:, :3]}, r"images are \(1, 6, 5\) and test_images \(1, 3, 5\)"),
        ({"images": GREY, "labels": LABELS, "test_images": GREY}, "labels for one"),
        ({"images": GREY[:1]}, "only one image"),
        ({"images": np.array([{}, 1], dtype=object)}, "images holds Python objects, which would have to be unpickled"),
    ],
)
def test_what_makes_no_data_set_is_named(tmp_path: Path, arrays: dict[str, np.ndarray], reason: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=reason) as caught:
        load_arrays(tmp_path / "a.npz")
    assert caught.value.remedy


STORED: dict[str, tuple[np.ndarray, Scale]] = {
    "uint8": (np.array([0, 128, 255], np.uint8), USUAL),
    "uint16": (np.array([0, 4096, 65535], np.uint16), Scale(0, 65535, "uint16")),
    "uint16 of 12 bits": (np.array([0, 17, 4095], np.uint16), Scale(0, 4095, "uint16")),
    "int16": (np.array([-30000, 5, 30000], np.int16), Scale(-32768, 32767, "float32")),
    "int16 of Hounsfield units": (np.array([-1024, 40, 3071], np.int16), Scale(-1024, 3071, "float32")),
    "int64 of 8 bits": (np.array([3, 128, 252], np.int64), USUAL),
    "int64 of 16 bits": (np.array([0, 128, 60000], np.int64), Scale(0, 65535, "uint16")),
    "int32": (np.array([-5, 70_000, 1_000_000], np.int32), Scale(-5, 1_000_000, "float32")),
    "truth values": (np.array([False, True, True]), Scale(0, 1, "uint8")),
    "floats": (np.array([0.01, 0.5, 0.99]), Scale(0, 1, "float32")),
    "half floats below 0": (np.array([-1, 0, 1], np.float16), Scale(-1, 1, "float32")),
    "floats of 8 bits": (np.array([3, 127.5, 255]), Scale(0, 255, "float32")),
    "floats anywhere": (np.array([-2, 0.5, 3.25]), Scale(-2, 3.25, "float32")),
    "masks": (np.array([0, 1, 1], np.uint8), Scale(0, 1, "uint8")),
    "dark": (np.array([4, 7, 20], np.uint8), Scale(4, 20, "uint8")),
}


@pytest.mark.parametrize("case", STORED)
def test_numbers_of_every_kind_arrive_as_they_are(tmp_path: Path, case: str) -> None:
    stored, scale = STORED[case]
    images = np.stack([np.roll(stored, number) for number in range(3)])[:, None]
    np.savez(tmp_path / "a.npz", images=images, test_images=images)
    dataset = load_arrays(tmp_path / "a.npz")
    assert dataset.scale == scale
    for part in (dataset.train, dataset.test):
        assert part.images.dtype == scale.stored
        np.testing.assert_array_equal(part.images[:, 0], np.float32(images) if scale.stored == "float32" else images)
    told = [notice for notice in dataset.notices if "black is" in notice]
    assert len(told) == (scale != USUAL)


def test_dark_images_are_taken_from_0_to_255_by_their_dtype(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=GREY // 20)
    dataset = load_arrays(tmp_path / "a.npz", value_range="dtype")
    assert (dataset.scale, [notice for notice in dataset.notices if "black is" in notice]) == (USUAL, [])


def test_a_range_that_is_given_cuts_and_counts(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.arange(48, dtype=np.int16).reshape(4, 3, 4) - 10)
    dataset = build_dataset(ArraysData(path=tmp_path / "a.npz", held_out=0, range="-5..30"))
    assert dataset.scale == Scale(-5, 30, "float32")
    np.testing.assert_array_equal(dataset.train.images.ravel(), (np.arange(48) - 10).clip(-5, 30))
    assert dataset.notices[1].startswith("12 values lie outside of -5 to 30")
    whole = build_dataset(ArraysData(path=tmp_path / "a.npz", held_out=0, range="dtype"))
    assert whole.scale == Scale(-32768, 32767, "float32")
    middle = build_dataset(ArraysData(path=tmp_path / "a.npz", held_out=0, range="25%..75%"))
    assert middle.scale == Scale(2, 25, "uint8")


def test_many_channels_and_few(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RNG.integers(0, 65536, (9, 40, 30, 16)).astype(np.uint16))
    assert load_arrays(tmp_path / "a.npy").image_shape == (16, 40, 30)
    np.save(tmp_path / "b.npy", RNG.integers(0, 256, (9, 16, 12, 3), np.uint8))
    assert load_arrays(tmp_path / "b.npy").image_shape == (3, 16, 12)
    assert load_arrays(tmp_path / "b.npy", ArrayOptions("NCHW")).image_shape == (16, 12, 3)


@pytest.mark.parametrize("bad", [np.full((3, 4, 4), 1j), np.full((3, 4, 4), "a")])
def test_what_is_no_number_is_refused(tmp_path: Path, bad: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", bad)
    with pytest.raises(DataError, match=f"images are {bad.dtype}, no numbers that are pixels"):
        load_arrays(tmp_path / "a.npy")


def test_images_that_are_held_out_and_trained_on_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=LAST, test_images=np.concatenate([LAST[:4], 255 - LAST[:4]]))
    (notice,) = load_arrays(tmp_path / "a.npz").notices
    assert "4 held-out images have the same pixels as images to train on" in notice
    np.savez(tmp_path / "b.npz", images=LAST, test_images=255 - LAST)
    assert load_arrays(tmp_path / "b.npz").notices == ()


@pytest.mark.parametrize(
    ("limit", "repeats"), [(None, "8 held-out images have"), (3, "3 held-out images have"), (1, "1 held-out image has")]
)
def test_images_that_are_held_out_and_trained_on_are_counted_after_a_limit(tmp_path: Path, limit: int | None, repeats: str) -> None:
    np.savez(tmp_path / "a.npz", images=LAST[:8], test_images=LAST)
    (notice,) = build_dataset(ArraysData(path=tmp_path / "a.npz", limit=limit)).notices
    assert f"{repeats} the same pixels as images to train on" in notice
    np.savez(tmp_path / "b.npz", images=LAST, test_images=LAST[:1])
    assert build_dataset(ArraysData(path=tmp_path / "b.npz", limit=2, take="first")).notices != ()
    np.savez(tmp_path / "c.npz", images=LAST, test_images=LAST[29:])
    assert build_dataset(ArraysData(path=tmp_path / "c.npz", limit=2, take="first")).notices == ()


@pytest.mark.parametrize(("take", "labels"), [("evenly", [0, 0, 1, 1, 2, 2]), ("first", [0] * 6)])
def test_a_limit_of_images_sorted_by_class_takes_all_classes(tmp_path: Path, take: Any, labels: list[int]) -> None:
    np.savez(tmp_path / "a.npz", images=GREY, labels=np.sort(LABELS), test_images=255 - GREY, test_labels=np.sort(LABELS))
    dataset = build_dataset(ArraysData(path=tmp_path / "a.npz", limit=6, take=take))
    assert dataset.train.labels.tolist() == labels
    assert len(dataset.test) == 30
    assert len(dataset.notices) == (take == "first")


@pytest.mark.parametrize("key", ["images", "labels"])
def test_an_archive_with_something_else_in_place_of_an_array(tmp_path: Path, key: str) -> None:
    np.savez(tmp_path / "good.npz", images=GREY, labels=LABELS)
    with zipfile.ZipFile(tmp_path / "good.npz") as good, zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in good.namelist():
            archive.writestr(name, b"text" if name == f"{key}.npy" else good.read(name))
    with pytest.raises(DataError, match=f"{key} is no array"):
        load_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut", b"\x93NUMPY\x01\x00"])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    for name in ("a.npz", "a.npy"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="cannot be read") as caught:
            load_arrays(tmp_path / name)
        assert "pickle" not in caught.value.message
    with pytest.raises(DataError, match="no file"):
        load_arrays(tmp_path / "absent.npz")


def test_check_counts_the_values_of_arrays_and_shows_them_in_eight_bits(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.linspace(-1000, 3000, 400, dtype=np.int16).reshape(4, 10, 10))
    report, seen = check_images(load_arrays(tmp_path / "a.npy", held_out=0), preview=True)
    values = report.training.values
    assert values is not None
    assert (values.low, values.high, values.smallest, values.largest) == (-1000, 3000, -1000, 3000)
    assert sum(values.counts) == 400
    assert max(values.counts) - min(values.counts) <= 1
    assert seen is not None
    assert (seen.dtype, seen.min(), seen.max()) == (np.uint8, 0, 255)


def test_a_small_test_part_may_have_the_classes_of_the_training_part(tmp_path: Path) -> None:
    labels = np.arange(30) % 10
    np.savez(tmp_path / "a.npz", images=GREY, labels=labels, test_images=GREY[:5] // 2, test_labels=np.array([9, 1, 2, 3, 4]))
    dataset = load_arrays(tmp_path / "a.npz")
    assert dataset.test.class_names == dataset.train.class_names == tuple("0123456789")


def test_slices_are_of_formats_that_are_recognised(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", volumes=np.zeros((9, 4, 6, 5), np.uint8))
    with pytest.raises(DataError, match=r"data\.slices goes with formats that are recognised"):
        load_arrays(tmp_path / "a.npz", ArrayOptions(images_key="volumes", slices=True))
