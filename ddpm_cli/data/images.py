"""What every source of data hands over: two sets of images with labels, and where they came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


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


def with_limit(dataset: Dataset, limit: int) -> Dataset:
    """Keep the first `limit` training images; the test images stay.

    Every source of ours is mixed by class from its first image on, so that a prefix is too.

    Args:
        dataset: Any data set.
        limit: Images to keep, at least 1; more than there are keeps all.
    """
    if limit >= len(dataset.train):
        return dataset
    train = ImageSet(dataset.train.images[:limit], dataset.train.labels[:limit], dataset.train.class_names)
    source = f"{dataset.source}, first {limit:,} training images"
    return replace(dataset, source=source, train=train, sha256=images_sha256(train.images))
