"""Read MedMNIST: `.npz` with images and labels of train, val and test (Yang et al. 2023), as its class MedMNIST opens them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ddpm_cli.data.sources.formats.reader import ArrayOptions, Reader, array_set, labels_of, part
from ddpm_cli.errors import DataError

if TYPE_CHECKING:
    from ddpm_cli.data.sources.array_sets import ArrayPart, ArraySet
    from ddpm_cli.data.sources.containers.found import Found


def _recognises(found: Found) -> bool:
    return {"train_images", "val_images", "test_images"} <= set(found.arrays)


def _read(found: Found, options: ArrayOptions) -> ArraySet:
    volumes = _are_volumes(found)
    shape = found.shape("train_images")
    if volumes and not options.slices:
        raise DataError(
            f"{found.path} is recognised as MedMNIST, of {shape[0]:,} volumes {list(shape[1:])}; models draw images.",
            "Train on the slices of the volumes: --set data.slices=true",
        )
    if options.slices and not volumes:
        raise DataError(f"{found.path} holds images, and data.slices is for volumes.", "Leave out data.slices.")
    train, val = (_part(found, name, options) for name in ("train", "val"))
    what = "slices" if volumes else "images"
    said = (
        f"MedMNIST: {len(train.images):,} {what} to train on, {len(val.images):,} of val held out, "
        f"{found.shape('test_images')[0]:,} {'volumes' if volumes else 'images'} of test not used"
    )
    return array_set(found.path, said, train, val, layout="NHWC" if len(shape) == 4 and not volumes else "auto")


def _are_volumes(found: Found) -> bool:
    """Whether it is [N, D, H, W], and not [N, H, W, 3]."""
    shape = found.shape("train_images")
    return len(shape) == 4 and shape[3] not in (1, 3)


def _part(found: Found, name: str, options: ArrayOptions) -> ArrayPart:
    key, label_key = f"{name}_images", f"{name}_labels"
    images, labels = found.read(key), labels_of(found, label_key, options)
    if options.slices and images.ndim == 4:
        depth = images.shape[1]
        images = images.reshape(-1, *images.shape[2:])
        labels = None if labels is None else np.repeat(labels, depth)
    return part(images, labels, key, label_key)


MEDMNIST = Reader(
    title="MedMNIST",
    about="Read MedMNIST's .npz: val is held out, volumes are taken as slices with data.slices.",
    recognises=_recognises,
    read=_read,
    options=frozenset({"slices"}),
)
