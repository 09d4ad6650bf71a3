"""Read images in NumPy's files: `.npz` with the keys images, labels, test_images, test_labels, or `.npy` with images alone."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from ddpm_cli.core.io.array_files import ARRAY_ERRORS, read_array
from ddpm_cli.data.images import Dataset
from ddpm_cli.data.ranges import Range
from ddpm_cli.data.sources.array_sets import AnyLayout, ArrayPart, ArraySet, dataset_of
from ddpm_cli.errors import DataError

KEYS = ("images", "labels", "test_images", "test_labels")
ZIP_MAGIC, NPY_MAGIC = b"PK", b"\x93NUMPY"
SMALL_BYTES = 100_000_000
MOST_PACKED = 500
"""Times that a file of images may grow when it is unpacked, if it grows beyond SMALL_BYTES: no pictures are that even."""
Arrays = Mapping[str, NDArray[np.generic]]


def load_arrays(
    path: Path, layout: AnyLayout = "auto", held_out: float = 0.1, *, dark: bool = False, value_range: Range = "auto"
) -> Dataset:
    """Load images from an `.npz` or `.npy` file; nothing in it is unpickled.

    Args:
        path: The file. Images are numbers, [N, H, W], [N, H, W, C] or [N, C, H, W] with 1 to 16 channels; labels whole numbers [N].
        layout: Where the channels are, if the shape alone does not tell.
        held_out: As for `dataset_of`.
        dark: Likewise.
        value_range: Likewise.
    Raises:
        DataError: If the file is missing, damaged, holds something else, or its layout cannot be told.
    """
    arrays = _read(path)
    train = ArrayPart(arrays["images"], arrays.get("labels"))
    test = None
    if "test_images" in arrays:
        test = ArrayPart(arrays["test_images"], arrays.get("test_labels"), "test_images", "test_labels")
    return dataset_of(ArraySet(path.stem, str(path), train, test, layout), held_out, dark=dark, value_range=value_range)


def _read(path: Path) -> Arrays:
    if not path.is_file():
        raise DataError(f"There is no file {path}.", "Name an .npz or .npy file.")
    try:
        with path.open("rb") as file:
            start = file.read(len(NPY_MAGIC))
            if not start.startswith(ZIP_MAGIC):
                if start != NPY_MAGIC:
                    raise ValueError("it is neither an .npz nor an .npy file")
                return {"images": read_array(path.resolve(), mapped="c")}
            _refuse_bombs(path)
            file.seek(0)
            with warnings.catch_warnings(), np.load(file, allow_pickle=False) as loaded:
                warnings.simplefilter("ignore")  # as in read_array
                if "images" not in loaded.files:
                    names = ", ".join(loaded.files) or "nothing"
                    raise DataError(f"{path} has no array images, only {names}.", f"Its keys: {', '.join(KEYS)}.")
                return {key: _member(loaded, key) for key in KEYS if key in loaded.files}
    except (OSError, *ARRAY_ERRORS, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read: {str(error).rstrip('.')}.", "Write it with numpy.savez or numpy.save, as numbers."
        ) from error


def _member(loaded: Mapping[str, Any], key: str) -> NDArray[np.generic]:
    """An array of the archive, of which NumPy hands out as bytes what does not begin like one."""
    found = loaded[key]
    if not isinstance(found, np.ndarray):
        raise ValueError(f"{key} is no array")
    return found


def _refuse_bombs(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > max(SMALL_BYTES, MOST_PACKED * path.stat().st_size) or unpacked > psutil.virtual_memory().total:
        raise ValueError(f"it would unpack to {unpacked / 1e9:,.1f} GB")
