"""Read ImageNet at 32x32 and 64x64: `train_data_batch_K.npz` with planar `data`, `labels` from 1 (Chrabaszcz et al. 2017)."""

from __future__ import annotations

import re
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data.sources.containers.found import Found, require_room
from ddpm_cli.data.sources.containers.opening import look_into
from ddpm_cli.data.sources.formats.pixels import require_planes
from ddpm_cli.data.sources.formats.reader import ArrayOptions, Reader, array_set, column, joined, part
from ddpm_cli.errors import DataError

if TYPE_CHECKING:
    from ddpm_cli.data.sources.array_sets import ArrayPart, ArraySet

BATCH = re.compile(r"train_data_batch_(\d+)(?:\.npz)?")
HELD_OUT = "val_data.npz"
PUBLISHED = re.compile(r"train_data_batch_\d+|val_data|.*imagenet[ _-]?(8|16|32|64)(\D.*)?", re.IGNORECASE)
"""Names, without their ending, of the published files and of archives of these: keys and shapes alone are those of many sets."""
SIDES = (8, 16, 32, 64)
CLASSES = tuple(str(number) for number in range(1000))


def batches_of(folder: Path) -> list[Path]:
    """List the batches in a folder by their numbers; of a pickled one, and of the same as .npz, the latter."""
    found = {int(name[1]): path for path in sorted(folder.iterdir()) if (name := BATCH.fullmatch(path.name))}
    return [found[number] for number in sorted(found)]


def _recognises(found: Found) -> bool:
    if found.path.is_dir():
        return bool(batches_of(found.path))
    shape = found.shape("data")
    fits = "labels" in found.arrays and len(shape) == 2 and shape[1] in {3 * side**2 for side in SIDES}
    return fits and PUBLISHED.fullmatch(found.path.stem) is not None


def _read(found: Found, options: ArrayOptions) -> ArraySet:
    folder = found.path if found.path.is_dir() else found.path.parent
    files = batches_of(found.path) if found.path.is_dir() else [found.path]
    train = _part([look_into(path) for path in files], folder, options)
    beside = folder / HELD_OUT
    test = _part([look_into(beside)], folder, options) if beside.is_file() and found.path != beside else None
    counts = f"{len(files):,} of {len(batches_of(folder)):,} batches" if BATCH.fullmatch(files[0].name) else "one file"
    side = train.images.shape[2]
    said = f"ImageNet at {side}x{side}: {counts}, plane after plane, labels from 1 counted from 0" + (
        f", {HELD_OUT} held out" if test else ""
    )
    return array_set(found.path, said, train, test, layout="NCHW", class_names=CLASSES)


def _part(batches: list[Found], folder: Path, options: ArrayOptions) -> ArrayPart:
    names = [batch.path.name for batch in batches]
    require_room(sum(int(np.prod(batch.shape("data"), dtype=object)) for batch in batches), folder)
    rows = joined([batch.read("data") for batch in batches], names, folder)
    if rows.ndim != 2 or (side := isqrt(rows.shape[1] // 3)) ** 2 * 3 != rows.shape[1]:
        raise DataError(f"{folder / names[0]}: data of shape {list(rows.shape)} are no rows of 3 planes.", "Fetch it anew.")
    require_planes(rows, 3, (side, side), f"{folder / names[0]}: data")
    return part(rows.reshape(-1, 3, side, side), _labels(batches, options), "data", "labels")


def _labels(batches: list[Found], options: ArrayOptions) -> NDArray[np.generic] | None:
    if not options.with_labels:
        return None
    labels = [column(batch.read("labels"), f"{batch.path}: labels") for batch in batches]
    numbers = np.concatenate(labels)
    if numbers.dtype.kind not in "iu":
        return numbers
    if not len(numbers) or numbers.min() < 1 or numbers.max() > len(CLASSES):
        between = f"{numbers.min()} to {numbers.max()}" if len(numbers) else "nothing"
        raise DataError(f"{batches[0].path}: labels go from {between}, and those of ImageNet from 1 to 1,000.", "Fetch it anew.")
    return numbers.astype(np.int64) - 1


IMAGENET = Reader(
    title="ImageNet 32x32 and 64x64",
    about="Read downsampled ImageNet: a folder of train_data_batch_K.npz or one of them; val_data.npz beside them is held out.",
    recognises=_recognises,
    read=_read,
)
