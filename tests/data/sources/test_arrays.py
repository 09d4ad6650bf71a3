from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_cli.build.data import build_dataset
from ddpm_cli.config.schema.data import ArraysData
from ddpm_cli.data.images import images_sha256
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
        ({"images": GREY.astype(np.float32)}, "images are float32 from 0 to 255, not uint8"),
        ({"images": GREY[0]}, "rows of 5 values, which are no square images"),
        ({"images": GREY[:0]}, r"shape \[0, 6, 5\] are empty"),
        ({"images": RNG.integers(0, 256, (4, 6, 5, 7), np.uint8)}, "have no 1 to 4 channels"),
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


@pytest.mark.parametrize(
    ("stored", "pixels"),
    [
        (np.array([0, 0.5, 1], np.float32), [0, 128, 255]),
        (np.array([0.01, 0.5, 0.99]), [3, 128, 252]),
        (np.array([-1, 0, 1], np.float16), [0, 128, 255]),
        (np.array([-0.02, 0.5, 1.03]), [0, 128, 255]),
        (np.array([-1.05, 0, 1.05]), [0, 128, 255]),
        (np.array([0, 127.6, 255.0]), [0, 128, 255]),
        (np.array([False, True, True]), [0, 255, 255]),
        (np.array([0, 1, 1], np.int64), [0, 255, 255]),
        (np.array([0, 128, 255], np.int64), [0, 128, 255]),
        (np.array([0, 257 * 128, 65535], np.uint16), [0, 128, 255]),
        (np.array([-2, 0.5, 3.0]), [0, 128, 255]),
    ],
)
def test_the_remedy_for_other_numbers_keeps_what_they_show(tmp_path: Path, stored: np.ndarray, pixels: list[int]) -> None:
    images = np.tile(stored, (5, 1))[:, None]
    np.savez(tmp_path / "a.npz", images=images)
    with pytest.raises(DataError, match="not uint8") as caught:
        load_arrays(tmp_path / "a.npz")
    line = caught.value.remedy.removeprefix("Store pixels from 0 to 255: images = ").removesuffix(", or undo how they were scaled")
    made = eval(line, {"images": images, "numpy": np})  # noqa: S307 - as a user pastes it
    assert made.dtype == np.uint8
    assert made[0, 0].tolist() == pixels


@pytest.mark.parametrize("high", [1, 7, 20, 25])
def test_images_that_use_less_than_a_tenth_of_the_greys_are_refused(tmp_path: Path, high: int) -> None:
    images = np.tile(np.array([0, high], np.uint8), (3000, 3, 1))
    np.savez(tmp_path / "a.npz", images=images)
    with pytest.raises(DataError, match=f"images are uint8 up to {high}, but white would be 255") as caught:
        load_arrays(tmp_path / "a.npz")
    made = eval(caught.value.remedy.removeprefix("Store pixels from 0 to 255: images = "), {"images": images, "numpy": np})  # noqa: S307
    assert (made.dtype, made.max()) == (np.uint8, 255)
    np.savez(tmp_path / "b.npz", images=images, test_images=images)
    with pytest.raises(DataError, match="almost black") as caught:
        load_arrays(tmp_path / "b.npz")
    assert "test_images likewise" in caught.value.remedy
    images[1:2] = 30  # one picture is bright
    np.savez(tmp_path / "c.npz", images=images)
    assert load_arrays(tmp_path / "c.npz", held_out=0).train.images.max() == 30


@pytest.mark.parametrize("bad", [np.full((3, 4, 4), np.nan), np.full((3, 4, 4), 1j), np.full((3, 4, 4), "a")])
def test_what_is_no_number_has_no_line_to_paste(tmp_path: Path, bad: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", bad)
    with pytest.raises(DataError, match=f"images are {bad.dtype}") as caught:
        load_arrays(tmp_path / "a.npy")
    assert "images =" not in caught.value.remedy


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
