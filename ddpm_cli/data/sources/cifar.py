"""Load CIFAR-10 and CIFAR-100: 60,000 colour photographs each, 32x32, of ten or a hundred classes (Krizhevsky 2009).

Read from the published *binary* versions; those named "python" consist of pickles, which are programs and never loaded.
A binary batch consists of records: one label byte (CIFAR-100: two, of the twenty coarse classes and the hundred fine ones, of which
the fine one is taken) and 3,072 pixels (red, green, blue planes of 32x32, row by row).
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.downloads import cache_directory, fetch
from ddpm_cli.core.io.idx import read_bounded
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.data.images import Dataset, ImageSet, images_sha256
from ddpm_cli.errors import DataError
from ddpm_cli.results.events import Listener, Notice, ignore

IMAGE_SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
CIFAR100_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle caterpillar
cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster
house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree
orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose
sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television
tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


@dataclass(frozen=True)
class Cifar:
    """Describe one of the two data sets as it is published.

    Attributes:
        name: What we call it.
        title: What its authors call it.
        archive: File name of the binary version.
        md5: Its published sum.
        folder: What the archive unpacks to.
        train: Batches to train on.
        test: The held-out batch.
        records: Images of each batch.
        label_bytes: Before the pixels of each record; the last one counts.
        class_names: Name of each class.
    """

    name: str
    title: str
    archive: str
    md5: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    records: dict[str, int]
    label_bytes: int
    class_names: tuple[str, ...]

    @property
    def batches(self) -> tuple[str, ...]:
        """List all batches."""
        return self.train + self.test

    def batch_bytes(self, batch: str) -> int:
        """Tell the size of a batch."""
        return self.records[batch] * (self.label_bytes + PIXELS)


CIFAR10_BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
CIFAR10 = Cifar(
    "cifar10",
    "CIFAR-10",
    "cifar-10-binary.tar.gz",
    "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-10-batches-bin",
    CIFAR10_BATCHES[:5],
    CIFAR10_BATCHES[5:],
    dict.fromkeys(CIFAR10_BATCHES, 10_000),
    1,
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
CIFAR100 = Cifar(
    "cifar100",
    "CIFAR-100",
    "cifar-100-binary.tar.gz",
    "03b5dce01913d631647c71ecec9e9cb8",
    "cifar-100-binary",
    ("train.bin",),
    ("test.bin",),
    {"train.bin": 50_000, "test.bin": 10_000},
    2,
    tuple(CIFAR100_NAMES.split()),
)
SERVER = "https://www.cs.toronto.edu/~kriz/"

Batches = dict[str, bytearray]


def load_cifar(which: Cifar, root: Path | None = None, on_event: Listener = ignore) -> Dataset:
    """Load CIFAR-10 or CIFAR-100 from its binary batches.

    Looked for in `root`; else in the cache folder and on the network. A folder may hold the `.bin` files, itself or below the
    folder that the archive unpacks to, or the archive, which is read where it lies.

    Args:
        which: CIFAR10 or CIFAR100.
        root: A folder that must hold the files; nothing else is tried then.
        on_event: Is told before a download begins.
    Returns:
        50,000 training and 10,000 test images, [N, 3, 32, 32].
    Raises:
        DataError: If the files are nowhere to be had, or damaged.
    """
    if root is not None:
        batches = _read_folder(which, user_path(root, "data.root", DataError))
        if batches is None:
            raise DataError(f"data.root {root} does not hold {which.title}'s binary version.", _remedy(which, root))
        return _dataset(which, batches, f"data.root, {root}")
    cache = cache_directory()
    batches = _read_folder(which, cache)
    if batches is None:
        return _dataset(which, _download(which, cache, on_event), f"a download into {cache}")
    return _dataset(which, batches, f"the cache folder {cache}")


def _remedy(which: Cifar, folder: Path) -> str:
    files = f"{which.archive}, or {', '.join(which.batches)} out of it"
    return f"Put {files}, into {folder}. The python version (pickles) is not read."


def is_below(which: Cifar, folder: Path) -> bool:
    """Tell whether a folder holds the batches or the archive; their content is not looked at."""
    return _find_batches(which, folder) is not None or (folder / which.archive).is_file()


def _find_batches(which: Cifar, folder: Path) -> dict[str, Path] | None:
    for place in (folder, folder / which.folder):
        paths = {name: place / name for name in which.batches}
        if all(path.is_file() for path in paths.values()):
            return paths
    return None


def _read_folder(which: Cifar, folder: Path) -> Batches | None:
    if paths := _find_batches(which, folder):
        return {name: read_bounded(path, which.batch_bytes(name)) for name, path in paths.items()}
    archive = folder / which.archive
    return _read_archive(which, archive) if archive.is_file() else None


def _read_archive(which: Cifar, archive: Path) -> Batches:
    """Read the batches, by their names, out of the archive; nothing is unpacked to disk."""
    wanted = {f"{which.folder}/{name}": name for name in which.batches}
    again = f"Delete it and get {which.archive} again."
    batches: Batches = {}
    try:
        with archive.open("rb") as file:
            if hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest() != which.md5:
                raise DataError(f"{archive} does not match its published checksum.", again)
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r|gz") as tar:
                for member in tar:
                    content = tar.extractfile(member) if member.isreg() and member.name in wanted else None
                    if content is not None:
                        name = wanted[member.name]
                        batches[name] = bytearray(content.read(which.batch_bytes(name)))
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{archive} cannot be read: {error}.", again) from error
    return batches


def _download(which: Cifar, cache: Path, on_event: Listener) -> Batches:
    on_event(Notice(f"Downloading {which.title} (170 MB) into {cache}."))
    try:
        fetch(SERVER + which.archive, cache / which.archive, which.md5)
    except OSError as error:
        message = f"{which.title} is not in {cache} and its download failed ({error})."
        raise DataError(message, _remedy(which, cache)) from error
    return _read_archive(which, cache / which.archive)


def _dataset(which: Cifar, batches: Batches, source: str) -> Dataset:
    train, test = _image_set(which, batches, which.train), _image_set(which, batches, which.test)
    return Dataset(which.name, source, train, test, images_sha256(train.images))


def _image_set(which: Cifar, batches: Batches, names: tuple[str, ...]) -> ImageSet:
    records = np.concatenate([_records(which, batches.get(name, bytearray()), name) for name in names])
    images = np.ascontiguousarray(records[:, which.label_bytes :]).reshape(-1, *IMAGE_SHAPE)
    return ImageSet(images, records[:, which.label_bytes - 1].astype(np.int64), which.class_names)


def _records(which: Cifar, content: bytearray, name: str) -> NDArray[np.uint8]:
    expected, replace = which.batch_bytes(name), f"Replace it with that of {which.archive}."
    if len(content) != expected:
        raise DataError(f"{which.title}'s {name} has {len(content):,} bytes, not {expected:,}.", replace)
    records = np.frombuffer(content, np.uint8).reshape(which.records[name], which.label_bytes + PIXELS)
    highest = len(which.class_names) - 1
    if records[:, which.label_bytes - 1].max() > highest:
        raise DataError(f"{which.title}'s {name} has a label above {highest}.", replace)
    return records
