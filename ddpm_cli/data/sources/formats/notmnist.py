"""Read notMNIST: `.mat` with images [28, 28, N] and labels 0 to 9 for the letters A to J (Bulatov 2011)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ddpm_cli.data.sources.formats.reader import ArrayOptions, Reader, array_set, labels_of, part

if TYPE_CHECKING:
    from ddpm_cli.data.sources.array_sets import ArraySet
    from ddpm_cli.data.sources.containers.found import Found

LETTERS = tuple("ABCDEFGHIJ")


def _recognises(found: Found) -> bool:
    images, labels = found.shape("images"), found.shape("labels")
    return found.path.suffix.lower() == ".mat" and len(images) == 3 and int(np.prod(labels)) == images[2] != images[0]


def _read(found: Found, options: ArrayOptions) -> ArraySet:
    images, labels = found.read("images"), labels_of(found, "labels", options)
    train = part(np.moveaxis(images, -1, 0), labels, "images", "labels")
    return array_set(found.path, "notMNIST: images last, labels are A to J", train, class_names=LETTERS, said_range=(0, 255))


NOTMNIST = Reader(
    title="notMNIST",
    about="Read notMNIST's .mat with images [28, 28, N] and labels.",
    recognises=_recognises,
    read=_read,
)
