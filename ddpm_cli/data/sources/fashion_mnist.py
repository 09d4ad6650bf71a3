"""Load Fashion-MNIST: 70,000 images of clothes, 28x28 grey, ten classes (Xiao, Rasul and Vollgraf 2017).

The full set is looked for in a folder that the user names, the cache, the folder of Debian's package, and the network; where
none has it, the subset in this package takes its place and says so.
"""

from __future__ import annotations

import hashlib
import lzma
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.downloads import cache_directory, fetch
from ddpm_cli.core.io.idx import parse_idx, read_bounded
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.data.images import Dataset, ImageSet, images_sha256
from ddpm_cli.errors import DataError
from ddpm_cli.results.events import Listener, Notice, ignore

CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

# Sums of the unpacked files: the packed ones differ from one distributor to the next, though they hold the same bytes.
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
SHA256 = {
    TRAIN_IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    TRAIN_LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    TEST_IMAGES: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    TEST_LABELS: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
MAX_BYTES = 16 + 60_000 * 28 * 28

SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
RAW = Path("FashionMNIST", "raw")

BUNDLED_FILE = "fashion-mnist-10k.xz"
BUNDLED_SHAPE = (10, 1_200, 28, 28)
BUNDLED_TRAIN = 1_000
BUNDLED_SHA256 = "7715190f591c72fba8dd3b18bc99bcb650a53323397224f83188c3efa2918862"

Files = dict[str, Path]


def load_fashion_mnist(root: Path | None = None, on_event: Listener = ignore, *, stand_in: bool = True) -> Dataset:
    """Load the full Fashion-MNIST, or the bundled subset with a notice where no copy can be had.

    Looked for in `root`; else in the cache folder, in the folder of Debian's package `dataset-fashion-mnist`, and on the network.
    A folder may hold the four IDX files, plain or gzip, itself or below `FashionMNIST/raw`, as torchvision lays them out.

    Args:
        root: A folder that must hold the files; nothing else is tried then.
        on_event: Is told before a download begins.
        stand_in: Whether the bundled subset may take the place of a set that cannot be had.
    Returns:
        60,000 training and 10,000 test images, [N, 1, 28, 28]; or 10,000 and 2,000, named `fashion-mnist-10k`.
    Raises:
        DataError: If `root` lacks the files, a file that was found is damaged, or nothing may stand in for a set that is missing.
    """
    if root is not None:
        return _load(_require_files(user_path(root, "data.root", DataError)), f"data.root, {root}")
    if found := find_fashion_mnist():
        return _load(*found)
    cache = cache_directory()
    try:
        files = _download(cache, on_event)
    except OSError as error:
        if not stand_in:
            raise _missing(error, cache) from error
        return replace(load_fashion_mnist_10k(), notices=(_fallback_notice(error, cache),), stands_in_for="fashion-mnist")
    return _load(files, f"a download into {cache}")


def find_fashion_mnist() -> tuple[Files, str] | None:
    """Find the files of the full set on this machine and the place where they are, or None; their content is not looked at."""
    cache = cache_directory()
    for folder, place in ((cache, f"the cache folder {cache}"), (SYSTEM_FOLDER, f"the system folder {SYSTEM_FOLDER}")):
        if files := _find_files(folder):
            return files, place
    return None


def load_fashion_mnist_10k() -> Dataset:
    """Load the balanced subset that comes with this package (`examples/build_fashion_mnist_10k.py` made it).

    Image i is of class i % 10, so that every prefix is balanced too.

    Returns:
        10,000 training and 2,000 test images, [N, 1, 28, 28].
    Raises:
        DataError: If the file in the package is damaged.
    """
    pixels = unpack(resources.files("ddpm_cli.data").joinpath("bundled", BUNDLED_FILE).read_bytes())
    train, test = _interleave(pixels[:, :BUNDLED_TRAIN]), _interleave(pixels[:, BUNDLED_TRAIN:])
    source = "the subset bundled with ddpm-cli"
    return Dataset("fashion-mnist-10k", source, train, test, images_sha256(train.images))


def _candidates(folder: Path, name: str) -> list[Path]:
    return [place / file for place in (folder, folder / RAW) for file in (name, f"{name}.gz")]


def _find_files(folder: Path) -> Files | None:
    found = {name: path for name in SHA256 for path in reversed(_candidates(folder, name)) if path.is_file()}
    return found if len(found) == len(SHA256) else None


def _require_files(root: Path) -> Files:
    if files := _find_files(root):
        return files
    missing = [name for name in SHA256 if not any(path.is_file() for path in _candidates(root, name))]
    problem = f"lacks {', '.join(missing)}" if root.is_dir() else "is not a folder"
    raise DataError(
        f"data.root {root} {problem}.",
        f"Put Fashion-MNIST's four IDX files (plain or .gz) there or in {RAW} below it, or leave data.root unset.",
    )


def _download(cache: Path, on_event: Listener) -> Files:
    from torchvision.datasets import FashionMNIST

    on_event(Notice(f"Downloading Fashion-MNIST (31 MB) into {cache}."))
    for filename, md5 in FashionMNIST.resources:
        fetch(FashionMNIST.mirrors[0] + filename, cache / RAW / filename, md5)
    return _require_files(cache)


def _load(files: Files, place: str) -> Dataset:
    train = _image_set(files[TRAIN_IMAGES], files[TRAIN_LABELS])
    test = _image_set(files[TEST_IMAGES], files[TEST_LABELS])
    return Dataset("fashion-mnist", place, train, test, images_sha256(train.images))


def _image_set(images: Path, labels: Path) -> ImageSet:
    return ImageSet(_read_checked(images)[:, None], _read_checked(labels).astype(np.int64), CLASS_NAMES)


def _read_checked(path: Path) -> NDArray[np.uint8]:
    content = read_bounded(path, MAX_BYTES)
    if hashlib.sha256(content).hexdigest() != SHA256[path.name.removesuffix(".gz")]:
        raise DataError(
            f"{path} is damaged or is not Fashion-MNIST's: its content does not match the published checksum.",
            "Delete or replace it; `--data fashion-mnist-10k` needs no files.",
        )
    return parse_idx(content, path)


def unpack(packed: bytes) -> NDArray[np.uint8]:
    """Unpack the bundled images, uint8, shaped BUNDLED_SHAPE.

    Raises:
        DataError: If they are damaged.
    """
    size = int(np.prod(BUNDLED_SHAPE))
    try:
        content = bytearray(lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(packed, max_length=size + 1))
    except lzma.LZMAError:
        content = bytearray()
    if hashlib.sha256(content).hexdigest() != BUNDLED_SHA256:
        raise DataError(f"{BUNDLED_FILE}, which comes with ddpm-cli, is damaged.", "Install ddpm-cli again.")
    return np.frombuffer(content, np.uint8).reshape(BUNDLED_SHAPE)


def _interleave(by_class: NDArray[np.uint8]) -> ImageSet:
    classes, count, height, width = by_class.shape
    images = by_class.transpose(1, 0, 2, 3).reshape(count * classes, 1, height, width)
    return ImageSet(images, np.tile(np.arange(classes, dtype=np.int64), count), CLASS_NAMES)


def _missing(error: OSError, cache: Path) -> DataError:
    return DataError(
        f"Fashion-MNIST, on which this model was trained, is missing: no copy was found and the download failed ({error}).",
        f"Put its four IDX files into {cache}, or install Debian's package dataset-fashion-mnist, or try again with a network.",
    )


def _fallback_notice(error: OSError, cache: Path) -> str:
    return (
        "THIS RUN USES 10,000 IMAGES, NOT FASHION-MNIST'S 60,000: no copy of the full set was found and the download failed "
        f"({error}). The balanced subset that comes with ddpm-cli takes its place, so results do not compare with those on the "
        "full set. A run keeps to these images (its config says fashion-mnist-10k), also when it is resumed. For a new run on the "
        f"full set: set data.root to a folder with its four IDX files, or put them into {cache}, or install Debian's package "
        "dataset-fashion-mnist, or start it with a network."
    )
