"""Archives of arrays: the same bytes as NumPy's own, and a stranger's read within bounds."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ddpm_cli.core.io.array_archives import SMALL_BYTES, image_archive, read_keys, read_member, write_arrays
from ddpm_cli.core.io.files import UnreadableError

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 5, 4, 3), np.uint8)
LABELS = np.arange(10)


@pytest.mark.parametrize("labels", [LABELS, None])
def test_images_are_written_as_numpy_writes_them(tmp_path: Path, labels: np.ndarray | None) -> None:
    path, whole = tmp_path / "a.npz", io.BytesIO()
    with image_archive(path, 10, (5, 4, 3), labels) as archive:
        for rows in (slice(3), slice(3, 10)):
            archive.add(IMAGES[rows])
        assert not path.exists()
    np.savez(whole, IMAGES, *([] if labels is None else [labels]))
    assert path.read_bytes() == whole.getvalue()


def test_images_that_end_early_leave_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"older")

    def write(then: str) -> None:
        with image_archive(path, 10, (5, 4, 3)) as archive:
            archive.add(IMAGES[:4])
            if then:
                raise KeyboardInterrupt(then)

    with pytest.raises(KeyboardInterrupt, match="stopped"):
        write("stopped")
    with pytest.raises(ValueError, match="4 images were written where 10"):
        write("")
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("a.npz", b"older")]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed, lambda path, **arrays: write_arrays(path, arrays)])
def test_what_numpy_wrote_is_read_as_numpy_reads_it(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "a.npz"
    arrays = {
        "images": IMAGES,
        "f": np.asfortranarray(IMAGES[..., 0].astype(np.float32)),
        "n": np.int64(7),
        "none": np.zeros((0, 3)),
    }
    save(path, **arrays)
    assert set(read_keys(path)) == set(arrays)
    for key, array in arrays.items():
        found = read_member(path, key)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert np.array_equal(found, array)
    assert isinstance(read_member(path, "images"), np.memmap) == (save is np.savez)


def objects(path: Path) -> None:
    np.savez(path, a=np.array([{}], object))


def cut_off(path: Path) -> None:
    np.savez(path, a=IMAGES)
    path.write_bytes(path.read_bytes()[:-200])


def longer_than_it_is(path: Path) -> None:
    content = io.BytesIO()
    np.save(content, np.zeros(4, np.uint8))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", content.getvalue().replace(b"(4,)", b"(9,)"))


def no_array(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"text")


def locked(path: Path) -> None:
    np.savez(path, a=IMAGES)
    data = bytearray(path.read_bytes())
    for magic, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.index(magic) + place
        data[at : at + 2] = struct.pack("<H", 1)
    path.write_bytes(data)


def bomb(path: Path) -> None:
    np.savez_compressed(path, a=np.zeros(SMALL_BYTES + 1000, np.uint8))


def plain(path: Path) -> None:
    path.write_bytes(b"no archive")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (objects, "holds Python objects as a, which are not read"),
        (cut_off, "is truncated or no archive"),
        (longer_than_it_is, "a has 4 bytes, not 9"),
        (no_array, "is truncated or no archive"),
        (locked, "password"),
        (bomb, "would unpack a to 0.1 GB"),
        (plain, "is truncated or no archive"),
        (lambda path: np.savez(path, b=IMAGES), "has no array a"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    path = tmp_path / "a.npz"
    make(path)
    with pytest.raises(UnreadableError, match=words):
        read_member(path, "a")


def test_images_of_more_than_8_bits_are_no_bytes_of_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="images of uint16"), image_archive(tmp_path / "a.npz", 2, (4, 4, 3)) as archive:
        archive.add(np.zeros((2, 4, 4, 3), np.uint16))
    assert not (tmp_path / "a.npz").exists()
