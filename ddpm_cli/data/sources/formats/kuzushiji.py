"""Read Kuzushiji-MNIST and Kuzushiji-49 as published for NumPy: `*-imgs.npz` and `*-labels.npz` (Clanuwat et al. 2018)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.data.sources.containers.opening import look_into
from ddpm_cli.data.sources.formats.reader import ArrayOptions, Reader, array_set, labels_of, part
from ddpm_cli.errors import DataError

if TYPE_CHECKING:
    from ddpm_cli.data.sources.array_sets import ArrayPart, ArraySet
    from ddpm_cli.data.sources.containers.found import Found

NAME = re.compile(r"(.+)-(train|test)-(?:imgs|labels)\.npz")
KEY = "arr_0"


def _recognises(found: Found) -> bool:
    return NAME.fullmatch(found.path.name) is not None and KEY in found.arrays


def _read(found: Found, options: ArrayOptions) -> ArraySet:
    name = NAME.fullmatch(found.path.name)
    if name is None:
        raise DataError(f"{found.path} is not named as Kuzushiji's files are.", "Name *-imgs.npz.")
    parts = {split: _part(found.path, name[1], split, options) for split in ("train", "test")}
    train, test = parts["train"] or parts["test"], parts["test"] if parts["train"] else None
    if train is None:
        raise DataError(f"{found.path} has labels, but {name[1]}-{name[2]}-imgs.npz is not beside it.", "Put the images there.")
    held_out = f"{name[1]}-test-imgs.npz held out" if test else "no other images beside it"
    labels = "with the labels beside it" if train.labels is not None else "without labels"
    return array_set(found.path, f"Kuzushiji: {train.key} {labels}, {held_out}", train, test, name=name[1])


def _part(path: Path, name: str, split: str, options: ArrayOptions) -> ArrayPart | None:
    images, labels = (path.with_name(f"{name}-{split}-{what}.npz") for what in ("imgs", "labels"))
    if not images.is_file():
        return None
    numbers = labels_of(look_into(labels), KEY, options) if labels.is_file() else None
    return part(look_into(images).read(KEY), numbers, images.name, labels.name)


KUZUSHIJI = Reader(
    title="Kuzushiji-49",
    about="Read Kuzushiji-49 and KMNIST as *-imgs.npz and *-labels.npz; the files of train and test go together.",
    recognises=_recognises,
    read=_read,
)
