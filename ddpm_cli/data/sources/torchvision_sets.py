"""Load MNIST and its relatives, and SVHN, through torchvision's classes, which know where the files are and how they look."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.downloads import cache_directory, quiet_network
from ddpm_cli.core.io.files import scratch_folder
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.data.images import Dataset, ImageSet, images_sha256
from ddpm_cli.errors import DataError
from ddpm_cli.results.events import Listener, Notice, ignore

DIGITS = tuple("0123456789")
EmnistSplit = Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"]
Opened = TypeVar("Opened")
# What torchvision raises for files that are missing, cut short, or something else.
READ_ERRORS = (OSError, EOFError, RuntimeError, ValueError, AssertionError, KeyError, IndexError, TypeError, zlib.error)
DOWNLOAD_ERRORS = (*READ_ERRORS, HTTPException, ImportError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Published:
    """Say what people are told about a data set that torchvision knows.

    Attributes:
        name: What we call it; its folder in the cache too.
        title: What its authors call it.
        megabytes: To download, about.
        files: Its files below a root.
    """

    name: str
    title: str
    megabytes: int
    files: str


def load_mnist(root: Path | None = None, on_event: Listener = ignore) -> Dataset:
    """Load MNIST: 60,000 training and 10,000 test images of digits, [N, 1, 28, 28] (LeCun et al. 1998). See `obtain`."""
    which = Published("mnist", "MNIST", 12, "MNIST/raw/train-images-idx3-ubyte and the three files beside it (unpacked)")
    return _load(partial(_open_mnist, "MNIST", DIGITS), which, root, on_event)


def load_kmnist(root: Path | None = None, on_event: Listener = ignore) -> Dataset:
    """Load KMNIST: 60,000 training and 10,000 test images of hiragana, [N, 1, 28, 28] (Clanuwat et al. 2018). See `obtain`."""
    from torchvision.datasets import KMNIST

    which = Published("kmnist", "KMNIST", 21, "KMNIST/raw/train-images-idx3-ubyte and the three files beside it (unpacked)")
    return _load(partial(_open_mnist, "KMNIST", tuple(KMNIST.classes)), which, root, on_event)


def load_emnist(split: EmnistSplit, root: Path | None = None, on_event: Listener = ignore) -> Dataset:
    """Load a split of EMNIST: letters and digits, [N, 1, 28, 28] (Cohen et al. 2017). See `obtain`.

    The images are upright, where the files hold them transposed, and labels start at 0, where those of `letters` start at 1.
    """
    files = f"EMNIST/raw/emnist-{split}-train-images-idx3-ubyte and the other three (unpacked)"
    which = Published("emnist", f"EMNIST ({split})", 562, files)
    return _load(partial(_open_emnist, split), which, root, on_event)


def load_svhn(root: Path | None = None, on_event: Listener = ignore) -> Dataset:
    """Load SVHN: 73,257 training and 26,032 test images of digits, [N, 3, 32, 32] (Netzer et al. 2011). See `obtain`."""
    return _load(_open_svhn, Published("svhn", "SVHN", 246, "train_32x32.mat and test_32x32.mat"), root, on_event)


def obtain(
    open_below: Callable[[Path, bool], Opened], which: Published, root: Path | None, on_event: Listener
) -> tuple[Opened, str]:
    """Open a data set below `root`; else below its folder in the cache, where it is downloaded to as a whole or not at all.

    Args:
        open_below: Opens it below a folder, and downloads it first if told so.
        which: What to call it.
        root: A folder that must hold the files; nothing else is tried then.
        on_event: Is told before a download begins.
    Returns:
        What was opened, and where it came from.
    Raises:
        DataError: If the files are nowhere to be had, or damaged.
    """
    if root is not None:
        remedy = f"Put {which.files} there, or leave data.root unset."
        return _open(open_below, user_path(root, "data.root", DataError), f"data.root {root}", which, remedy), f"data.root, {root}"
    home = cache_directory() / which.name
    source = f"the cache folder {home}"
    if not home.exists():
        _download(open_below, which, home, on_event)
        source = f"a download into {home}"
    remedy = f"Delete it, and it is downloaded again; or put {which.files} there."
    return _open(open_below, home, f"The folder {home}", which, remedy), source


def _open(open_below: Callable[[Path, bool], Opened], root: Path, place: str, which: Published, remedy: str) -> Opened:
    try:
        return open_below(root, False)
    except READ_ERRORS as error:
        raise DataError(f"{place} does not hold {which.title}, or damaged ({error}).", remedy) from error


def _download(open_below: Callable[[Path, bool], Any], which: Published, home: Path, on_event: Listener) -> None:
    on_event(Notice(f"Downloading {which.title} ({which.megabytes:,} MB) into {home}."))
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(home) as folder:
            with quiet_network():
                open_below(folder, True)
            os.rename(folder, home)
    except DOWNLOAD_ERRORS as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{which.title} is not in {home} and its download failed ({reason}).",
            f"Put {which.files} into {home}, or name a folder that has them with --set data.root=DIR.",
        ) from error


def _load(
    open_below: Callable[[Path, bool], tuple[ImageSet, ImageSet]], which: Published, root: Path | None, on_event: Listener
) -> Dataset:
    (train, test), source = obtain(open_below, which, root, on_event)
    return Dataset(which.name, source, train, test, images_sha256(train.images))


def _open_mnist(class_name: str, class_names: tuple[str, ...], root: Path, download: bool) -> tuple[ImageSet, ImageSet]:
    cls = _without_pickles(class_name)
    train, test = (cls(root, train=train, download=download) for train in (True, False))
    return _grey_set(train.data.numpy(), train.targets.numpy(), class_names), _grey_set(
        test.data.numpy(), test.targets.numpy(), class_names
    )


def _open_emnist(split: EmnistSplit, root: Path, download: bool) -> tuple[ImageSet, ImageSet]:
    cls = _without_pickles("EMNIST")
    train, test = (cls(root, split=split, train=train, download=download) for train in (True, False))
    first = 1 if split == "letters" else 0
    names = tuple(train.classes[first:])

    def upright(part: Any) -> ImageSet:
        return _grey_set(part.data.numpy().transpose(0, 2, 1), part.targets.numpy() - first, names)

    return upright(train), upright(test)


def _without_pickles(class_name: str) -> Any:
    """The class of torchvision, but for the pickles that its old versions wrote, which it would read where it finds them."""
    from torchvision import datasets

    return type(class_name, (getattr(datasets, class_name),), {"_check_legacy_exist": lambda self: False})


def _open_svhn(root: Path, download: bool) -> tuple[ImageSet, ImageSet]:
    from torchvision.datasets import SVHN

    train, test = (SVHN(root, split=split, download=download) for split in ("train", "test"))
    return _image_set(train.data, train.labels, DIGITS), _image_set(test.data, test.labels, DIGITS)


def _grey_set(pixels: NDArray[np.uint8], labels: NDArray[np.int64], class_names: tuple[str, ...]) -> ImageSet:
    return _image_set(pixels[:, None], labels, class_names)


def _image_set(images: NDArray[np.uint8], labels: NDArray[np.int64], class_names: tuple[str, ...]) -> ImageSet:
    if images.ndim != 4 or images.dtype != np.uint8 or labels.shape != (len(images),) or not len(images):
        raise ValueError(f"{images.shape} {images.dtype} images and {labels.shape} labels")
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise ValueError(f"labels from {labels.min()} to {labels.max()} for {len(class_names)} classes")
    return ImageSet(np.ascontiguousarray(images), labels.astype(np.int64), class_names)
