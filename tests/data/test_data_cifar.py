from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from ddpm_cli.data.cifar10 import load_cifar10

from ddpm_cli.data import cifar10
from ddpm_cli.errors import DataError

RECORDS = 4
NAMES = cifar10.TRAIN_BATCHES + cifar10.TEST_BATCHES
# Image i of batch b: label (b + i) % 10, planes of one value each, and the pixel at row 1, column 2 of each plane is 255.
LABELS = [[(b + i) % 10 for i in range(RECORDS)] for b in range(len(NAMES))]


def record(b: int, i: int) -> bytes:
    planes = np.empty((3, 32, 32), np.uint8)
    planes[:] = np.array([10 * b + i, 100, 200]).reshape(3, 1, 1)
    planes[:, 1, 2] = 255
    return bytes([LABELS[b][i]]) + planes.tobytes()


BATCHES = {name: b"".join(record(b, i) for i in range(RECORDS)) for b, name in enumerate(NAMES)}


def archive_bytes(batches: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in {"../escape.bin": b"hostile", **batches}.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVE = archive_bytes(BATCHES)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, no network, and batches of four images."""

    def unreachable(url: str, path: Path, md5: str) -> None:
        raise URLError("no network in this test")

    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("DDPM_CACHE", str(folder))
    monkeypatch.setattr(cifar10, "fetch", unreachable)
    monkeypatch.setattr(cifar10, "BATCH_RECORDS", RECORDS)
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(ARCHIVE).hexdigest())
    return folder


def write_batches(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in BATCHES.items():
        (folder / name).write_bytes(content)


def assert_loaded(root: Path | None) -> str:
    dataset = load_cifar10(root)
    assert dataset.train.images.shape == (20, 3, 32, 32)
    assert dataset.test.images.shape == (4, 3, 32, 32)
    assert dataset.train.labels.tolist() == [label for labels in LABELS[:5] for label in labels]
    assert dataset.test.labels.tolist() == LABELS[5]
    image = dataset.train.images[5]  # image 1 of batch 1
    assert image[:, 0, 0].tolist() == [11, 100, 200]
    assert image[:, 1, 2].tolist() == [255, 255, 255]
    assert image[:, 2, 1].tolist() == [11, 100, 200]
    return dataset.source


@pytest.mark.parametrize("below", ["", "cifar-10-batches-bin"])
def test_batches_in_a_root(cache: Path, tmp_path: Path, below: str) -> None:
    write_batches(tmp_path / "root" / below)
    assert "data.root" in assert_loaded(tmp_path / "root")


@pytest.mark.parametrize("below", ["", "cifar-10-batches-bin"])
def test_batches_in_the_cache(cache: Path, below: str) -> None:
    write_batches(cache / below)
    assert "cache" in assert_loaded(None)


def test_archive_is_read_and_nothing_is_unpacked(cache: Path, tmp_path: Path) -> None:
    (cache / cifar10.ARCHIVE).write_bytes(ARCHIVE)
    assert_loaded(None)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [cache / cifar10.ARCHIVE]


def test_download_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(cifar10, "fetch", lambda url, path, md5: path.write_bytes(ARCHIVE))
        assert "download" in assert_loaded(None)
    assert "cache folder" in assert_loaded(None)


def test_unreachable_says_which_file_to_put_where(cache: Path) -> None:
    with pytest.raises(DataError, match="no network in this test") as caught:
        load_cifar10()
    assert cifar10.ARCHIVE in caught.value.remedy
    assert str(cache) in caught.value.remedy


def test_root_without_the_files_is_an_error(cache: Path, tmp_path: Path) -> None:
    write_batches(cache)
    with pytest.raises(DataError, match=r"data\.root"):
        load_cifar10(tmp_path)


def test_pickles_are_not_read(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in NAMES:
        (folder / name.removesuffix(".bin")).write_bytes(b"\x80\x04.")
    with pytest.raises(DataError) as caught:
        load_cifar10(tmp_path)
    assert "pickles" in caught.value.remedy


def test_altered_archive_is_refused(cache: Path) -> None:
    (cache / cifar10.ARCHIVE).write_bytes(archive_bytes({**BATCHES, NAMES[0]: BATCHES[NAMES[1]]}))
    with pytest.raises(DataError, match="checksum"):
        load_cifar10()


def test_archive_without_a_batch_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = archive_bytes({name: BATCHES[name] for name in NAMES[1:]})
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(content).hexdigest())
    (cache / cifar10.ARCHIVE).write_bytes(content)
    with pytest.raises(DataError, match=NAMES[0]):
        load_cifar10()


@pytest.mark.parametrize("damage", ["short", "long", "label"])
def test_damaged_batch_is_named(cache: Path, damage: str) -> None:
    write_batches(cache)
    content = BATCHES[NAMES[3]]
    damaged = {"short": content[:-1], "long": content + b"\0", "label": b"\x0a" + content[1:]}[damage]
    (cache / NAMES[3]).write_bytes(damaged)
    with pytest.raises(DataError, match=NAMES[3]) as caught:
        load_cifar10()
    assert caught.value.remedy
