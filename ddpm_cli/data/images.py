"""What every source of data hands over: two sets of images with labels, and where they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.wording import counted, first_few


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with labels, in memory or mapped into it from a file.

    Attributes:
        images: Pixels in [0, 255], uint8, [N, C, H, W].
        labels: Classes in [0, len(class_names)), int64, [N].
        class_names: Name of each class; one or none where there is nothing to tell apart.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training set and a test set.

    Attributes:
        name: What it is; a fallback carries its own name, not that of what was asked for.
        source: Where it came from, a phrase for people.
        train: Images to train on.
        test: Held-out images; there may be none.
        sha256: Of the bytes of the training images, hexadecimal.
        notices: What the user must know about this data before trusting a result.
        unreadable: Names of the files that could not be read and were left out.
        stands_in_for: The data set that was asked for and could not be had, if these images took its place.
    """

    name: str
    source: str
    train: ImageSet
    test: ImageSet
    sha256: str
    notices: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    stands_in_for: str | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


def images_sha256(images: NDArray[np.uint8]) -> str:
    """Sum of the bytes of images [N, C, H, W] in C order, hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()


def pixel_sum(image: NDArray[np.uint8]) -> int:
    """First 64 bits of the SHA-256 of an image's bytes: random, and equal for equal images of one shape."""
    return int.from_bytes(hashlib.sha256(np.ascontiguousarray(image).data).digest()[:8], "big")


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
    which = f"{limit:,} training images taken evenly from it" if evenly else f"first {limit:,} training images"
    return replace(
        dataset,
        source=f"{dataset.source}, {which}",
        train=train,
        sha256=images_sha256(train.images),
        notices=(*dataset.notices, *_left_out(whole, train)),
    )


def _evenly(labels: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Which images make an even share of each class, in their order, int64 [limit]."""
    by_class = np.argsort(labels, kind="stable")
    return np.sort(by_class[np.arange(limit) * len(labels) // limit])


def _left_out(whole: ImageSet, kept: ImageSet) -> Iterator[str]:
    counts = [np.bincount(part.labels, minlength=len(whole.class_names)) for part in (whole, kept)]
    if absent := [name for name, before, after in zip(whole.class_names, *counts, strict=False) if before and not after]:
        yield f"data.limit leaves no training image of {counted(len(absent), 'class', 'classes')}: {first_few(absent)}."
