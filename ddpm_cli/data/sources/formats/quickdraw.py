"""Read QuickDraw's bitmaps: `.npy` of [N, 784] numbers, one file for each class (Google's "quickdraw_bitmap" files)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddpm_cli.data.sources.containers.found import Found, require_room
from ddpm_cli.data.sources.containers.numpy_files import ALONE, open_npy
from ddpm_cli.data.sources.formats.pixels import as_images
from ddpm_cli.data.sources.formats.reader import ArrayOptions, Reader, array_set, joined, part

if TYPE_CHECKING:
    from ddpm_cli.data.sources.array_sets import ArraySet

PREFIX = "full_numpy_bitmap_"
PIXELS = 784


def files_of(folder: Path) -> list[Path]:
    """List the files of classes in a folder by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".npy" and not path.name.startswith("."))


def _recognises(found: Found) -> bool:
    if found.path.is_dir():
        return bool(files_of(found.path))
    return set(found.arrays) == {ALONE} and found.shape(ALONE)[1:] == (PIXELS,)


def _read(found: Found, options: ArrayOptions) -> ArraySet:
    if found.path.is_dir():
        return _read_classes(found.path, options)
    images = as_images(found.read(ALONE), f"{found.path}: images", size=options.flat_size)
    return array_set(found.path, f"one class of QuickDraw, or its like: {images.said}", part(images.array, None, ALONE))


def _read_classes(folder: Path, options: ArrayOptions) -> ArraySet:
    files = files_of(folder)
    arrays = [open_npy(path).read(ALONE) for path in files]
    require_room(sum(array.nbytes for array in arrays), folder)
    pixels = joined(arrays, [path.name for path in files], folder)
    images = (
        as_images(pixels, f"{folder}: {files[0].name} and others", layout=options.layout, size=options.flat_size)
        if (pixels.ndim == 2)
        else None
    )
    names = tuple(path.stem.removeprefix(PREFIX) for path in files)
    labels = np.repeat(np.arange(len(files)), [len(array) for array in arrays]) if options.with_labels else None
    said = f"a folder of classes, as QuickDraw's: {len(files):,} .npy files" + (f" with {images.said}" if images else "")
    return array_set(
        folder,
        said,
        part(images.array if images else pixels, labels, "images"),
        layout=images.layout if images else options.layout,
        class_names=names,
    )


QUICKDRAW = Reader(
    title="QuickDraw",
    about="Read QuickDraw's bitmaps: one .npy of [N, 784], or a folder with such a file for each class.",
    recognises=_recognises,
    read=_read,
    options=frozenset({"flat_size"}),
)
