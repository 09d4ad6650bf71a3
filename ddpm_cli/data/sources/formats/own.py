"""Read arrays of one's own: the keys images, labels, test_images and test_labels, or those that the user names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm_cli.data.sources.containers.found import Found
from ddpm_cli.data.sources.formats.pixels import as_images, images_first
from ddpm_cli.data.sources.formats.reader import ArrayOptions, Reader, array_set, labels_of, name_of, part
from ddpm_cli.errors import DataError

if TYPE_CHECKING:
    from ddpm_cli.data.sources.array_sets import AnyLayout, ArrayPart, ArraySet

KEYS = ("images", "labels", "test_images", "test_labels")


def _recognises(found: Found) -> bool:
    return KEYS[0] in found.arrays


def _read(found: Found, options: ArrayOptions) -> ArraySet:
    from ddpm_cli.data.sources.array_sets import ArraySet

    train, layout, notices = _part(found, KEYS[0], KEYS[1], options)
    test = None
    if KEYS[2] in found.arrays:
        test, layout, _ = _part(found, KEYS[2], KEYS[3], options)
    return ArraySet(name_of(found.path), str(found.path), train, test, layout, notices=notices)


def read_by_key(found: Found, options: ArrayOptions) -> ArraySet:
    """Read the images, and labels if there are some, under the keys that the user names.

    Raises:
        DataError: If there are none.
    """
    if options.slices:
        raise DataError(
            f"{found.path}: data.slices goes with formats that are recognised, not with data.images_key.", "Leave out one of both."
        )
    key, label_key = options.images_key or KEYS[0], options.labels_key if options.with_labels else None
    if label_key is not None and label_key not in found.arrays:
        found.read(label_key)  # says which keys there are
    train, layout, notices = _part(found, key, label_key or "", options)
    said = f"{key} with {label_key} as classes" if label_key else f"{key} without classes"
    return array_set(found.path, f"what data.images_key says: {said}{_also(notices)}", train, layout=layout)


def _also(notices: tuple[str, ...]) -> str:
    return "".join(f", {notice.rstrip('.')}" for notice in notices)


def _part(found: Found, key: str, label_key: str, options: ArrayOptions) -> tuple[ArrayPart, AnyLayout, tuple[str, ...]]:
    images, layout = found.read(key), options.layout
    if found.path.suffix.lower() == ".mat":  # whose programs count images by the last axis
        images = images_first(images)
    notices: tuple[str, ...] = ()
    if images.ndim == 2 and images.size:
        flat = as_images(images, f"{found.path}: {key}", layout=layout, size=options.flat_size)
        images, layout, notices = flat.array, flat.layout, (f"{key} are {flat.said}.",)
    return part(images, labels_of(found, label_key, options), key, label_key), layout, notices


OWN = Reader(
    title="your own",
    about="Read .npz, .mat or HDF5 with images, labels, test_images and test_labels, or .npy; others by data.images_key.",
    recognises=_recognises,
    read=_read,
    options=frozenset({"flat_size"}),
)
