"""CIFAR-10: 60,000 colour photographs, 32x32, ten classes (Krizhevsky 2009).

Read from the published *binary* version; the one named "python" consists of pickles, which are programs and never loaded.
A binary batch is 10,000 records of one label byte and 3,072 pixels (red, green, blue planes of 32x32, row by row).
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data.cache import cache_directory, fetch
from ddpm_cli.data.idx import read_bounded
from ddpm_cli.data.images import Dataset, ImageSet, images_sha256
from ddpm_cli.errors import DataError
from ddpm_cli.events import Listener, Notice, ignore

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"

TRAIN_BATCHES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_BATCHES = ("test_batch.bin",)
BATCH_RECORDS = 10_000
IMAGE_SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + 3 * 32 * 32

Batches = dict[str, bytearray]


def load_cifar10(root: Path | None = None, on_event: Listener = ignore) -> Dataset:
    """Load CIFAR-10 from its binary batches.

    Looked for in `root`; else in the cache folder and on the network. A folder may hold the six `.bin` files, itself or below
    `cifar-10-batches-bin`, or the archive `cifar-10-binary.tar.gz`, which is read where it lies.

    Args:
        root: A folder that must hold the files; nothing else is tried then.
        on_event: Is told before a download begins.
    Returns:
        50,000 training and 10,000 test images, [N, 3, 32, 32].
    Raises:
        DataError: If the files are nowhere to be had, or damaged.
    """
    if root is not None:
        batches = _read_folder(root.expanduser())
        if batches is None:
            raise DataError(f"data.root {root} does not hold CIFAR-10's binary version.", _remedy(root))
        return _dataset(batches, f"data.root, {root}")
    cache = cache_directory()
    batches = _read_folder(cache)
    if batches is None:
        return _dataset(_download(cache, on_event), f"a download into {cache}")
    return _dataset(batches, f"the cache folder {cache}")


def _remedy(folder: Path) -> str:
    return f"Put {ARCHIVE}, or the six .bin files that are in it, into {folder}. The python version (pickles) is not read."


def _read_folder(folder: Path) -> Batches | None:
    for place in (folder, folder / FOLDER):
        paths = [place / name for name in TRAIN_BATCHES + TEST_BATCHES]
        if all(path.is_file() for path in paths):
            return {path.name: read_bounded(path, BATCH_RECORDS * RECORD_BYTES) for path in paths}
    archive = folder / ARCHIVE
    return _read_archive(archive) if archive.is_file() else None


def _read_archive(archive: Path) -> Batches:
    """Read the six batches, by their names, out of the archive; nothing is unpacked to disk."""
    wanted = {f"{FOLDER}/{name}": name for name in TRAIN_BATCHES + TEST_BATCHES}
    batches: Batches = {}
    try:
        with archive.open("rb") as file:
            if hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest() != ARCHIVE_MD5:
                raise DataError(f"{archive} does not match its published checksum.", f"Delete it and get {ARCHIVE} again.")
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r|gz") as tar:
                for member in tar:
                    content = tar.extractfile(member) if member.isreg() and member.name in wanted else None
                    if content is not None:
                        batches[wanted[member.name]] = bytearray(content.read(BATCH_RECORDS * RECORD_BYTES))
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{archive} cannot be read: {error}.", f"Delete it and get {ARCHIVE} again.") from error
    return batches


def _download(cache: Path, on_event: Listener) -> Batches:
    on_event(Notice(f"Downloading CIFAR-10 (170 MB) into {cache}."))
    try:
        fetch(ARCHIVE_URL, cache / ARCHIVE, ARCHIVE_MD5)
    except OSError as error:
        raise DataError(f"CIFAR-10 is not in {cache} and its download failed ({error}).", _remedy(cache)) from error
    return _read_archive(cache / ARCHIVE)


def _dataset(batches: Batches, source: str) -> Dataset:
    train, test = _image_set(batches, TRAIN_BATCHES), _image_set(batches, TEST_BATCHES)
    return Dataset("cifar10", source, train, test, images_sha256(train.images))


def _image_set(batches: Batches, names: tuple[str, ...]) -> ImageSet:
    records = np.concatenate([_records(batches.get(name, bytearray()), name) for name in names])
    images = np.ascontiguousarray(records[:, 1:]).reshape(-1, *IMAGE_SHAPE)
    return ImageSet(images, records[:, 0].astype(np.int64), CLASS_NAMES)


def _records(content: bytearray, name: str) -> NDArray[np.uint8]:
    expected = BATCH_RECORDS * RECORD_BYTES
    if len(content) != expected:
        raise DataError(f"CIFAR-10's {name} has {len(content):,} bytes, not {expected:,}.", f"Replace it with that of {ARCHIVE}.")
    records = np.frombuffer(content, np.uint8).reshape(BATCH_RECORDS, RECORD_BYTES)
    if records[:, 0].max() >= len(CLASS_NAMES):
        raise DataError(f"CIFAR-10's {name} has a label above 9.", f"Replace it with that of {ARCHIVE}.")
    return records
