"""Describe a format of arrays: how it is recognised, and what is read of it. What readers share is here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.files import printable
from ddpm_cli.data.sources.containers.found import Found
from ddpm_cli.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from ddpm_cli.data.sources.array_sets import AnyLayout, ArrayPart, ArraySet

NONE = "ignore"
"""The key of labels that are not to be read."""
WITHOUT_LABELS = f"--set data.labels_key={NONE}"


@dataclass(frozen=True)
class ArrayOptions:
    """Say what the user knows of a file of arrays.

    Attributes:
        layout: Where the channels are; auto if the format or the shape tells.
        images_key: Key of the images, where the format is none that is known.
        labels_key: Key of the labels; ignore reads no labels of any format.
        slices: Take volumes [N, D, H, W] as N * D images.
        flat_size: Height and width of images that lie flat as rows of pixels; None if they are square.
    """

    layout: AnyLayout = "auto"
    images_key: str | None = None
    labels_key: str | None = None
    slices: bool = False
    flat_size: tuple[int, int] | None = None

    @property
    def with_labels(self) -> bool:
        """Tell whether labels are wanted."""
        return self.labels_key != NONE


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Describe a format.

    Attributes:
        title: What people call it.
        about: Which files it has, in a line.
        recognises: Tells by keys and shapes, or by the file's name, whether a file or folder is of this format.
        read: Reads what was recognised.
        options: Those of `ArrayOptions` that it heeds beside the keys and the layout.
    """

    title: str
    about: str
    recognises: Callable[[Found], bool]
    read: Callable[[Found, ArrayOptions], ArraySet]
    options: frozenset[Literal["slices", "flat_size"]] = frozenset()


def part(images: NDArray[np.generic], labels: NDArray[np.generic] | None, key: str, label_key: str = "labels") -> ArrayPart:
    """Make a part of a set; see `ArrayPart`."""
    from ddpm_cli.data.sources.array_sets import ArrayPart

    return ArrayPart(images, labels, key, label_key)


def array_set(
    path: Path,
    said: str,
    train: ArrayPart,
    test: ArrayPart | None = None,
    *,
    layout: AnyLayout = "auto",
    class_names: tuple[str, ...] = (),
    said_range: tuple[float, float] | None = None,
    name: str | None = None,
) -> ArraySet:
    """Make a set that says what it was recognised as; see `ArraySet`.

    Args:
        path: The file or folder.
        said: Name of the format, and what of it the user must know.
        train: Images to train on.
        test: Images held out.
        layout: Where the channels are.
        class_names: Name of each class.
        said_range: What the format says is black and white.
        name: What the set is called; None calls it as the file.
    """
    from ddpm_cli.data.sources.array_sets import ArraySet

    names = class_names if train.labels is not None else ()
    notice = f"{printable(path.name)} is recognised as {said}."
    return ArraySet(name or name_of(path), str(path), train, test, layout, names, (notice,), said_range)


def name_of(path: Path) -> str:
    """Name a set by its file, without the endings."""
    return path.name if path.is_dir() else path.name.removesuffix(".gz").rsplit(".", 1)[0]


def labels_of(found: Found, key: str, options: ArrayOptions) -> NDArray[np.generic] | None:
    """Read labels as whole numbers [N]; None if there are none, or none are wanted.

    Raises:
        DataError: If they say several things of one image.
    """
    if key not in found.arrays or not options.with_labels:
        return None
    return whole(column(found.read(key), f"{found.path}: {printable(key)}"))


def column(labels: NDArray[np.generic], what: str) -> NDArray[np.generic]:
    """Take labels [N], [N, 1] or [1, N] as [N].

    Raises:
        DataError: If there are several columns.
    """
    if labels.ndim == 2 and min(labels.shape) > 1:
        raise DataError(
            f"{what} are {labels.dtype} {list(labels.shape)}, {labels.shape[1]} for each image, where a model takes one class.",
            f"Train without classes: {WITHOUT_LABELS}",
        )
    return labels.reshape(-1) if labels.ndim == 2 else labels


def whole(labels: NDArray[np.generic]) -> NDArray[np.generic]:
    """Take floats that all are whole numbers as int64; others stay as they are."""
    if labels.dtype.kind != "f" or not np.isfinite(labels).all() or not (labels == np.rint(labels)).all():
        return labels
    return labels.astype(np.int64)


def joined(parts: list[NDArray[np.generic]], names: list[str], path: Path) -> NDArray[np.generic]:
    """Put arrays of several files behind one another.

    Raises:
        DataError: If they differ in the shape of an image or in type.
    """
    for name, array in zip(names, parts, strict=True):
        if array.shape[1:] != parts[0].shape[1:] or array.dtype != parts[0].dtype:
            first, other = (f"{each.dtype} {list(each.shape)}" for each in (parts[0], array))
            raise DataError(f"{path}: {names[0]} is {first} and {name} {other}.", "Keep files of one size and type in the folder.")
    return np.concatenate(parts)
