from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from ddpm_cli.data.sources import cifar
from ddpm_cli.data.sources.cifar import CIFAR10, CIFAR100, Cifar, load_cifar
from ddpm_cli.errors import DataError

RECORDS = 4


def record(which: Cifar, b: int, i: int) -> bytes:
    """Label (b + i) % 10, planes of one value each, and 255 at row 1, column 2 of each; before CIFAR-100's label a coarse one."""
    planes = np.empty((3, 32, 32), np.uint8)
    planes[:] = np.array([10 * b + i, 100, 200]).reshape(3, 1, 1)
    planes[:, 1, 2] = 255
    return bytes([19, (b + i) % 10][-which.label_bytes :]) + planes.tobytes()


def archive_bytes(folder: str, batches: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in {"../escape.bin": b"hostile", **batches}.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class Small:
    """One of the two data sets with batches of four images."""

    def __init__(self, published: Cifar) -> None:
        self.batches = {name: b"".join(record(published, b, i) for i in range(RECORDS)) for b, name in enumerate(published.batches)}
        self.archive = archive_bytes(published.folder, self.batches)
        records = dict.fromkeys(published.batches, RECORDS)
        self.which = replace(published, records=records, md5=hashlib.md5(self.archive).hexdigest())

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.batches.items():
            (folder / name).write_bytes(content)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache and no network."""

    def unreachable(url: str, path: Path, md5: str) -> None:
        raise URLError("no network in this test")

    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("DDPM_CACHE", str(folder))
    monkeypatch.setattr(cifar, "fetch", unreachable)
    return folder


@pytest.fixture(params=[CIFAR10, CIFAR100], ids=lambda which: which.name)
def small(request: pytest.FixtureRequest) -> Small:
    return Small(request.param)


def assert_loaded(small: Small, root: Path | None) -> str:
    dataset = load_cifar(small.which, root)
    batches = len(small.which.train)
    assert dataset.train.images.shape == (RECORDS * batches, 3, 32, 32)
    assert dataset.test.images.shape == (RECORDS, 3, 32, 32)
    assert dataset.train.labels.tolist() == [(b + i) % 10 for b in range(batches) for i in range(RECORDS)]
    assert dataset.test.labels.tolist() == [(batches + i) % 10 for i in range(RECORDS)]
    assert dataset.name == small.which.name
    image = dataset.test.images[1]
    assert image[:, 0, 0].tolist() == [10 * batches + 1, 100, 200]
    assert image[:, 1, 2].tolist() == [255, 255, 255]
    assert image[:, 2, 1].tolist() == [10 * batches + 1, 100, 200]
    return dataset.source


def test_published_facts() -> None:
    assert [CIFAR10.batch_bytes(name) for name in CIFAR10.batches] == [30_730_000] * 6
    assert [CIFAR100.batch_bytes(name) for name in CIFAR100.batches] == [153_700_000, 30_740_000]
    assert len(CIFAR100.class_names) == 100
    assert list(CIFAR100.class_names) == sorted(set(CIFAR100.class_names))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("place", ["root", "cache"])
def test_batches_in_a_folder(cache: Path, tmp_path: Path, small: Small, place: str, nested: bool) -> None:
    folder = tmp_path / place
    small.write(folder / small.which.folder if nested else folder)
    source = assert_loaded(small, folder if place == "root" else None)
    assert ("data.root" if place == "root" else "cache") in source


def test_archive_is_read_and_nothing_is_unpacked(cache: Path, tmp_path: Path, small: Small) -> None:
    (cache / small.which.archive).write_bytes(small.archive)
    assert_loaded(small, None)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [cache / small.which.archive]


def test_download_is_kept(cache: Path, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(cifar, "fetch", lambda url, path, md5: path.write_bytes(small.archive))
        assert "download" in assert_loaded(small, None)
    assert "cache folder" in assert_loaded(small, None)


def test_unreachable_says_which_file_to_put_where(cache: Path, small: Small) -> None:
    with pytest.raises(DataError, match="no network in this test") as caught:
        load_cifar(small.which)
    assert small.which.archive in caught.value.remedy
    assert str(cache) in caught.value.remedy


def test_root_without_the_files_is_an_error(cache: Path, tmp_path: Path, small: Small) -> None:
    small.write(cache)
    with pytest.raises(DataError, match=r"data\.root"):
        load_cifar(small.which, tmp_path)


def test_pickles_are_not_read(cache: Path, tmp_path: Path, small: Small) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in small.which.batches:
        (folder / name.removesuffix(".bin")).write_bytes(b"\x80\x04.")
    with pytest.raises(DataError) as caught:
        load_cifar(small.which, tmp_path)
    assert "pickles" in caught.value.remedy


def test_altered_archive_is_refused(cache: Path, small: Small) -> None:
    name = small.which.batches[0]
    altered = archive_bytes(small.which.folder, {**small.batches, name: small.batches[name][::-1]})
    (cache / small.which.archive).write_bytes(altered)
    with pytest.raises(DataError, match="checksum"):
        load_cifar(small.which)


def test_archive_without_a_batch_is_refused(cache: Path, small: Small) -> None:
    first, *others = small.which.batches
    content = archive_bytes(small.which.folder, {name: small.batches[name] for name in others})
    (cache / small.which.archive).write_bytes(content)
    with pytest.raises(DataError, match=first):
        load_cifar(replace(small.which, md5=hashlib.md5(content).hexdigest()))


@pytest.mark.parametrize("damage", ["short", "long", "label"])
def test_damaged_batch_is_named(cache: Path, small: Small, damage: str) -> None:
    small.write(cache)
    name = small.which.test[0]
    content = small.batches[name]
    label = bytes([0, len(small.which.class_names)][-small.which.label_bytes :])
    damaged = {"short": content[:-1], "long": content + b"\0", "label": label + content[len(label) :]}[damage]
    (cache / name).write_bytes(damaged)
    with pytest.raises(DataError, match=name) as caught:
        load_cifar(small.which)
    assert caught.value.remedy
