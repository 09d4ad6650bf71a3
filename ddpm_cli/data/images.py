"""Hold what every source of data hands over: two sets of images with labels, and where they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.scale import USUAL, Scale


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Hold images with labels, in memory or mapped into it from a file.

    Attributes:
        images: Pixels as they are stored, of the type and in the range of the data set's scale, [N, C, H, W].
        labels: Classes in [0, len(class_names)), int64, [N].
        class_names: Name of each class; one or none where there is nothing to tell apart.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Hold a training set and a test set.

    Attributes:
        name: What it is; a fallback carries its own name, not that of what was asked for.
        source: Where it came from, a phrase for people.
        train: Images to train on.
        test: Held-out images; there may be none.
        sha256: Of the bytes of the training images, hexadecimal.
        notices: What the user must know about this data before trusting a result.
        unreadable: Names of the files that could not be read and were left out.
        stands_in_for: The data set that was asked for and could not be had, if these images took its place.
        repeats: Held-out images with the same pixels as images to train on, of which a notice tells.
        label_columns: Columns that may hold classes and are not read, the likeliest first.
        scale: Which values of the pixels are black and white.
        by_content: Whether the images are in the order of sums of their content, which is random.
    """

    name: str
    source: str
    train: ImageSet
    test: ImageSet
    sha256: str
    notices: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    stands_in_for: str | None = None
    repeats: int = 0
    by_content: bool = False
    label_columns: tuple[str, ...] = ()
    scale: Scale = USUAL

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Tell channels, height and width of every image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


def images_sha256(images: NDArray[Any]) -> str:
    """Sum the bytes of images [N, C, H, W] in C order, hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()


def pixel_sum(image: NDArray[Any]) -> int:
    """Take the first 64 bits of the SHA-256 of an image's bytes: random, and equal for equal images of one shape."""
    return int.from_bytes(hashlib.sha256(np.ascontiguousarray(image).data).digest()[:8], "big")


def pixel_sums(images: NDArray[Any]) -> NDArray[np.uint64]:
    """Compute `pixel_sum` of each of some images [N, C, H, W]."""
    return np.array([pixel_sum(image) for image in images], np.uint64)


def count_repeats(train: ImageSet, test: ImageSet) -> int:
    """Count held-out images that have the same pixels as images to train on."""
    return int(np.isin(pixel_sums(test.images), pixel_sums(train.images)).sum())


def repeats_notice(repeats: int, *, left_out: bool) -> str:
    """Say that there are images with the same pixels on both sides of the held-out split.

    Args:
        repeats: How many.
        left_out: Whether they are, or else held out all the same.
    """
    if left_out:
        return f"Left out {counted(repeats)} with the same pixels as others on the other side of the held-out split."
    return (
        f"{counted(repeats, 'held-out image has', 'held-out images have')} the same pixels as images to train on: what is measured "
        "on held-out images flatters the model."
    )


def with_limit(dataset: Dataset, limit: int, *, evenly: bool = False) -> Dataset:
    """Keep some of the training images; the test images stay.

    Args:
        dataset: Any data set.
        limit: Images to keep, at least 1; more than there are keeps all.
        evenly: Take the same share of each class, from all over the set, for images whose order is somebody else's; else the
            first, as every source of ours is mixed by class from its first image on.
    """
    whole = dataset.train
    if limit >= len(whole):
        return dataset
    rows: slice | NDArray[np.int64] = _evenly(whole.labels, limit) if evenly else slice(limit)
    train = ImageSet(whole.images[rows], whole.labels[rows], whole.class_names)
    repeats = count_repeats(train, dataset.test) if dataset.repeats else 0
    return replace(
        dataset,
        source=f"{dataset.source}, {_which(dataset, limit, evenly)}",
        train=train,
        sha256=images_sha256(train.images),
        notices=(*_notices_but_of_repeats(dataset), *_left_out(whole, train), *_repeats_notices(repeats)),
        repeats=repeats,
    )


def _which(dataset: Dataset, limit: int, evenly: bool) -> str:
    if evenly:
        return f"{counted(limit, 'training image')} taken evenly from it"
    if dataset.by_content:
        return f"{counted(limit, 'training image')} chosen by a sum of their content"
    return f"the first {limit:,} training images" if limit > 1 else "the first training image"


def _notices_but_of_repeats(dataset: Dataset) -> list[str]:
    return [notice for notice in dataset.notices if notice not in _repeats_notices(dataset.repeats)]


def _repeats_notices(repeats: int) -> list[str]:
    return [repeats_notice(repeats, left_out=False)] if repeats else []


def _evenly(labels: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Which images make an even share of each class, in their order, int64 [limit]."""
    by_class = np.argsort(labels, kind="stable")
    return np.sort(by_class[np.arange(limit) * len(labels) // limit])


def _left_out(whole: ImageSet, kept: ImageSet) -> Iterator[str]:
    counts = [np.bincount(part.labels, minlength=len(whole.class_names)) for part in (whole, kept)]
    if absent := [name for name, before, after in zip(whole.class_names, *counts, strict=False) if before and not after]:
        yield f"data.limit leaves no training image of {counted(len(absent), 'class', 'classes')}: {first_few(absent)}."
