from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import write_picture
from PIL import Image

from ddpm_cli.data.pictures.settings import PictureSettings
from ddpm_cli.data.sources import torchvision_sets
from ddpm_cli.data.sources.celeba import load_celeba
from ddpm_cli.data.sources.torchvision_sets import load_emnist, load_kmnist, load_mnist, load_svhn
from ddpm_cli.errors import DataError
from ddpm_cli.results.events import Event, Notice

RNG = np.random.default_rng(0)
LEFT_L = np.zeros((28, 28), np.uint8)  # an L, upright
LEFT_L[4:24, 8] = 255
LEFT_L[23, 8:18] = 255


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing answers there
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    return tmp_path / "cache"


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def write_mnist(raw: Path, images: np.ndarray, labels: np.ndarray, *, prefixes: tuple[str, str] = ("train", "t10k")) -> None:
    raw.mkdir(parents=True)
    for prefix, part in zip(prefixes, (slice(None), slice(0, 4)), strict=True):
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images[part]))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels[part]))


def some_digits(count: int = 12, classes: int = 10, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    labels = (np.arange(count) % classes + first).astype(np.uint8)
    return RNG.integers(0, 256, (count, 28, 28), np.uint8), labels


@pytest.mark.parametrize(("load", "folder"), [(load_mnist, "MNIST"), (load_kmnist, "KMNIST")])
@pytest.mark.parametrize("cached", [True, False])
def test_mnist_and_kmnist(load: Any, folder: str, cached: bool, cache: Path, tmp_path: Path) -> None:
    images, labels = some_digits()
    root = cache / folder.lower() if cached else tmp_path / "mine"
    write_mnist(root / folder / "raw", images, labels)
    events: list[Event] = []
    dataset = load(None if cached else root, events.append)
    np.testing.assert_array_equal(dataset.train.images, images[:, None])
    assert dataset.train.labels.tolist() == labels.tolist()
    assert dataset.test.images.shape == (4, 1, 28, 28)
    assert len(dataset.train.class_names) == 10
    assert dataset.name == folder.lower()
    assert ("cache" if cached else "data.root") in dataset.source
    assert events == []


def test_class_names(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw", *some_digits())
    write_mnist(tmp_path / "KMNIST" / "raw", *some_digits())
    assert load_mnist(tmp_path).train.class_names == tuple("0123456789")
    assert load_kmnist(tmp_path).train.class_names[:3] == ("o", "ki", "su")


def test_pickles_of_old_torchvision_are_not_read(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw", *some_digits())
    (tmp_path / "MNIST" / "processed").mkdir()
    for name in ("training.pt", "test.pt"):
        (tmp_path / "MNIST" / "processed" / name).write_bytes(b"a pickle")
    assert len(load_mnist(tmp_path).train) == 12


EMNIST_CLASSES = {
    "byclass": (62, 0, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"),
    "bymerge": (47, 0, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"),
    "balanced": (47, 0, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"),
    "letters": (26, 1, "abcdefghijklmnopqrstuvwxyz"),
    "digits": (10, 0, "0123456789"),
    "mnist": (10, 0, "0123456789"),
}


@pytest.mark.parametrize("split", EMNIST_CLASSES)
def test_emnist_is_upright_and_its_labels_start_at_0(split: Any, tmp_path: Path) -> None:
    classes, first, names = EMNIST_CLASSES[split]
    labels = (np.arange(classes + 3) % classes + first).astype(np.uint8)
    images = np.repeat(LEFT_L.T[None], len(labels), 0)  # as the files hold it: transposed
    write_mnist(tmp_path / "EMNIST" / "raw", images, labels, prefixes=(f"emnist-{split}-train", f"emnist-{split}-test"))
    dataset = load_emnist(split, tmp_path)
    np.testing.assert_array_equal(dataset.train.images[0, 0], LEFT_L)
    np.testing.assert_array_equal(dataset.test.images[1, 0], LEFT_L)
    assert dataset.train.images.flags.c_contiguous
    assert dataset.train.labels.tolist() == [number % classes for number in range(classes + 3)]
    assert "".join(dataset.train.class_names) == names


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    pixels = RNG.integers(0, 256, (32, 32, 3, 6), np.uint8)
    labels = np.array([[1], [2], [10], [9], [10], [5]], np.uint8)
    published = {}
    for split in ("train", "test"):
        path = tmp_path / f"{split}_32x32.mat"
        savemat(path, {"X": pixels, "y": labels})
        published[split] = ["http://unused", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", published)
    dataset = load_svhn(tmp_path)
    np.testing.assert_array_equal(dataset.train.images, pixels.transpose(3, 2, 0, 1))
    assert dataset.train.images.flags.c_contiguous
    assert dataset.train.labels.tolist() == [1, 2, 0, 9, 0, 5]  # the files call the digit 0 ten
    assert dataset.train.class_names == tuple("0123456789")


@pytest.fixture
def celeba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten pictures: six train, two are for validation, two for the test."""
    from torchvision.datasets import CelebA

    base = tmp_path / "faces" / "celeba"
    names = [f"{number:06}.jpg" for number in range(1, 11)]
    for number, name in enumerate(names):
        write_picture(base / "img_align_celeba" / name, number, (22, 18, 3))
    rows = {
        "list_eval_partition.txt": [f"{name} {max(0, number - 4) // 2}" for number, name in enumerate(names)],
        "identity_CelebA.txt": [f"{name} {number}" for number, name in enumerate(names)],
        "list_bbox_celeba.txt": ["10", "image_id x y w h", *(f"{name} 1 2 3 4" for name in names)],
        "list_landmarks_align_celeba.txt": ["10", "a b", *(f"{name} 1 2" for name in names)],
        "list_attr_celeba.txt": ["10", "Bald Smiling", *(f"{name} 1 -1" for name in names)],
    }
    files = [("", "", "img_align_celeba.zip")]
    for name, lines in rows.items():
        (base / name).write_text("\n".join(lines) + "\n")
        files.append(("", hashlib.md5((base / name).read_bytes()).hexdigest(), name))
    monkeypatch.setattr(CelebA, "file_list", files)
    return tmp_path / "faces"


def test_celeba_holds_out_two_splits_and_has_no_classes(celeba: Path) -> None:
    dataset = load_celeba(celeba, PictureSettings(size=(11, 9)))
    assert (len(dataset.train), len(dataset.test)) == (6, 4)
    assert dataset.image_shape == (3, 11, 9)
    assert dataset.train.class_names == ()
    whole = load_celeba(celeba, PictureSettings())
    held_out = set()
    for number in range(7, 11):
        with Image.open(celeba / "celeba" / "img_align_celeba" / f"{number:06}.jpg") as image:
            held_out.add(np.asarray(image).transpose(2, 0, 1).tobytes())
    assert {image.tobytes() for image in whole.test.images} == held_out


@pytest.mark.parametrize(
    ("load", "title"),
    [
        (load_mnist, "MNIST"),
        (load_kmnist, "KMNIST"),
        (lambda root=None, listen=None: load_emnist("letters", root, listen), "EMNIST"),
        (load_svhn, "SVHN"),
        (lambda root=None, listen=None: load_celeba(root, PictureSettings(), listen), "CelebA"),
    ],
)
def test_no_network_says_which_files_to_put_where(load: Any, title: str, cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    events: list[Event] = []
    with pytest.raises(DataError, match="download failed") as caught:
        load(None, events.append)
    assert title in caught.value.message
    assert str(cache) in caught.value.remedy
    assert "data.root" in caught.value.remedy
    assert [isinstance(event, Notice) and "Downloading" in event.message for event in events] == [True]
    assert list(cache.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_download_is_kept_as_a_whole(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import MNIST

    images, labels = some_digits()

    def download(self: Any) -> None:
        if not Path(self.raw_folder).exists():
            write_mnist(Path(self.raw_folder), images, labels)

    with monkeypatch.context() as patch:
        patch.setattr(MNIST, "download", download)
        assert "a download into" in load_mnist().source
    dataset = load_mnist()
    assert "the cache folder" in dataset.source
    np.testing.assert_array_equal(dataset.train.images[:, 0], images)
    assert [path.name for path in cache.iterdir()] == ["mnist"]


@pytest.mark.parametrize("damage", ["missing", "short", "no idx", "labels"])
def test_damaged_files_are_one_message(tmp_path: Path, damage: str) -> None:
    images, labels = some_digits()
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw, images, labels if damage != "labels" else labels + 1)
    path = raw / "train-images-idx3-ubyte"
    if damage == "missing":
        path.unlink()
    elif damage != "labels":
        path.write_bytes(path.read_bytes()[:5000] if damage == "short" else b"<html>not found</html>")
    with pytest.raises(DataError, match="does not hold MNIST") as caught:
        load_mnist(tmp_path)
    assert "MNIST/raw/train-images-idx3-ubyte" in caught.value.remedy


def test_the_published_classes_are_as_expected() -> None:
    assert tuple("0123456789") == torchvision_sets.DIGITS
