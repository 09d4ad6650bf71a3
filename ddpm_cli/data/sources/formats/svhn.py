"""Read SVHN's cropped digits: `.mat` with X [32, 32, 3, N], and y from 1, in which 10 is the digit 0 (Netzer et al. 2011)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ddpm_cli.data.sources.containers.opening import look_into
from ddpm_cli.data.sources.formats.reader import ArrayOptions, Reader, array_set, labels_of, part
from ddpm_cli.errors import DataError

if TYPE_CHECKING:
    from ddpm_cli.data.sources.array_sets import ArrayPart, ArraySet
    from ddpm_cli.data.sources.containers.found import Found

DIGITS = tuple("0123456789")
TRAIN, TEST = ("train_32x32.mat", "extra_32x32.mat"), "test_32x32.mat"


def _recognises(found: Found) -> bool:
    shape = found.shape("X")
    return "y" in found.arrays and len(shape) == 4 and shape[2] == 3


def _read(found: Found, options: ArrayOptions) -> ArraySet:
    beside = found.path.with_name(TEST)
    pair = found.path.name in TRAIN and beside.is_file()
    test = _part(look_into(beside), options) if pair else None
    said = "SVHN: images last, 10 stands for the digit 0" + (f", {TEST} held out" if pair else "")
    return array_set(found.path, said, _part(found, options), test, layout="NHWC", class_names=DIGITS)


def _part(found: Found, options: ArrayOptions) -> ArrayPart:
    labels = labels_of(found, "y", options)
    if labels is not None and labels.dtype.kind in "iu":
        if labels.size and (labels.min() < 0 or labels.max() > 10):
            raise DataError(f"{found.path}: y go from {labels.min()} to {labels.max()}, and those of SVHN from 1 to 10.", _ANEW)
        labels = np.where(labels == 10, 0, labels)
    return part(np.moveaxis(found.read("X"), -1, 0), labels, "X", "y")


_ANEW = "Fetch it anew."
SVHN = Reader(
    title="SVHN",
    about="Read SVHN's .mat with X and y; test_32x32.mat beside train_32x32.mat is held out.",
    recognises=_recognises,
    read=_read,
)
