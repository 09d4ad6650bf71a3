"""Read STL-10's binary files, 96x96 in colour, whose planes are stored column by column, and labels from 1 (Coates et al. 2011)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.files import UnreadableError, printable, read_text
from ddpm_cli.data.sources.formats.pixels import require_planes
from ddpm_cli.data.sources.formats.reader import ArrayOptions, Reader, array_set, part
from ddpm_cli.errors import DataError

if TYPE_CHECKING:
    from ddpm_cli.data.sources.array_sets import ArrayPart, ArraySet
    from ddpm_cli.data.sources.containers.found import Found

SIDE, CHANNELS = 96, 3
IMAGE_BYTES = CHANNELS * SIDE * SIDE
NAME = re.compile(r"(train|test|unlabeled)_X\.bin")
NUMBER_OF_CLASSES = 10
NAMES_BYTES = 10_000


def _recognises(found: Found) -> bool:
    if found.path.is_dir():
        return (found.path / "train_X.bin").is_file()
    return NAME.fullmatch(found.path.name) is not None


def _read(found: Found, options: ArrayOptions) -> ArraySet:
    path = found.path / "train_X.bin" if found.path.is_dir() else found.path
    beside = path.with_name("test_X.bin")
    is_pair = path.name == "train_X.bin" and beside.is_file()
    train, test = _part(path, options), _part(beside, options) if is_pair else None
    labels = "no labels" if train.labels is None else "labels from 1 counted from 0"
    held_out = f", {len(test.images):,} of test_X.bin held out" if test else ""
    said = f"STL-10: {len(train.images):,} images, columns made rows, {labels}{held_out}"
    return array_set(found.path, said, train, test, layout="NCHW", class_names=_class_names(path.with_name("class_names.txt")))


def _part(path: Path, options: ArrayOptions) -> ArrayPart:
    count, rest = divmod(path.stat().st_size, IMAGE_BYTES)
    if rest or not count:
        raise DataError(
            f"{path} is recognised as STL-10, but {path.stat().st_size:,} bytes are no whole number of images of {IMAGE_BYTES:,}.",
            "Fetch it anew: it is cut off.",
        )
    rows = np.memmap(path, np.uint8, "c", shape=(count, IMAGE_BYTES))
    require_planes(rows, CHANNELS, (SIDE, SIDE), str(path))
    images = rows.reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 1, 3, 2)
    labels = path.with_name(path.name.replace("_X", "_y"))
    numbers = _labels(labels) if options.with_labels and labels.is_file() else None
    return part(images, numbers, path.name, labels.name)


def _labels(path: Path) -> NDArray[np.generic]:
    labels = np.fromfile(path, np.uint8)
    if labels.size and (labels.min() < 1 or labels.max() > NUMBER_OF_CLASSES):
        raise DataError(f"{path} has labels from {labels.min()} to {labels.max()}, and STL-10's go from 1 to 10.", "Fetch it anew.")
    return labels.astype(np.int64) - 1


def _class_names(path: Path) -> tuple[str, ...]:
    try:
        names = [printable(line.strip()) for line in read_text(path, NAMES_BYTES).splitlines() if line.strip()]
    except (OSError, UnreadableError):
        names = []
    return tuple(names) if len(set(names)) == NUMBER_OF_CLASSES else tuple(str(number) for number in range(NUMBER_OF_CLASSES))


STL10 = Reader(
    title="STL-10",
    about="Read STL-10's .bin files: a folder of them, or train_X.bin, test_X.bin or unlabeled_X.bin.",
    recognises=_recognises,
    read=_read,
)
