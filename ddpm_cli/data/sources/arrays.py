"""Read images in NumPy's files: `.npz` with the keys images, labels, test_images, test_labels, or `.npy` with images alone."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
from numpy.typing import NDArray

from ddpm_cli.core.io.array_files import ARRAY_ERRORS, read_array
from ddpm_cli.data.images import Dataset, ImageSet, count_repeats, images_sha256, pixel_sums, repeats_notice
from ddpm_cli.data.pictures.layout import cut_at
from ddpm_cli.data.pictures.white_level import LEAST_BRIGHT
from ddpm_cli.errors import DataError

KEYS = ("images", "labels", "test_images", "test_labels")
ZIP_MAGIC, NPY_MAGIC = b"PK", b"\x93NUMPY"
MAX_CHANNELS = 4
LOOKED_AT = 1000
"""Images whose values are looked at to say what they are."""
OVERSHOOT = 0.05
DARK = 25
SMALL_BYTES = 100_000_000
MOST_PACKED = 500
"""Times that a file of images may grow when it is unpacked, if it grows beyond SMALL_BYTES: no pictures are that even."""
AnyLayout = Literal["auto", "NHWC", "NCHW"]
Arrays = Mapping[str, NDArray[np.generic]]


def load_arrays(path: Path, layout: AnyLayout = "auto", held_out: float = 0.1, *, dark: bool = False) -> Dataset:
    """Load images from an `.npz` or `.npy` file; nothing in it is unpickled.

    Args:
        path: The file. Images are uint8 [N, H, W], [N, H, W, C] or [N, C, H, W] with 1 to 4 channels; labels are whole numbers [N].
        layout: Where the channels are, if the shape alone does not tell.
        held_out: Share of the images that is held out where the file has no test_images. As for folders, the sum of an
            image's bytes decides, and the images are put into the order of these sums.
        dark: Take images that all are almost black, as a model was trained on them.
    Returns:
        The images in memory; those of an `.npy` file that is not split are mapped from it.
    Raises:
        DataError: If the file is missing, damaged, holds something else, or its layout cannot be told.
    """
    arrays = _read(path)
    images = _images(arrays["images"], "images", path, layout)
    labels, names = _labels(arrays, "labels", len(images), path)
    source, notices = f"the file {path}", tuple[str, ...]()
    is_split = "test_images" not in arrays and held_out > 0
    if "test_images" in arrays:
        test_images = _images(arrays["test_images"], "test_images", path, layout)
        if test_images.shape[1:] != images.shape[1:]:
            raise DataError(f"{path}: images are {images.shape[1:]} and test_images {test_images.shape[1:]}.", "Make them equal.")
        test_labels, test_names = _labels(arrays, "test_labels", len(test_images), path)
        if ("labels" in arrays) != ("test_labels" in arrays):
            raise DataError(f"{path} has labels for one of images and test_images only.", "Give both labels, or none.")
        names = max(names, test_names, key=len)
        if not dark:
            _require_bright([images, test_images], path)
        train, test = ImageSet(images, labels, names), ImageSet(test_images, test_labels, names)
        repeats = count_repeats(train, test)
        notices = (repeats_notice(repeats, left_out=False),) if repeats else ()
    else:
        repeats = 0
        if not dark:
            _require_bright([images], path)
        train, test = _split(ImageSet(images, labels, names), held_out, source)
    return Dataset(path.stem, source, train, test, images_sha256(train.images), notices, repeats=repeats, by_content=is_split)


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
            f"{path} cannot be read: {str(error).rstrip('.')}.", "Write it with numpy.savez or numpy.save, as uint8."
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


def _images(array: NDArray[np.generic], key: str, path: Path, layout: AnyLayout) -> NDArray[np.uint8]:
    """The array as [N, C, H, W]."""
    if not array.size:
        raise DataError(f"{path}: {key} of shape {list(array.shape)} are empty.", "Name a file that holds images.")
    if array.dtype != np.uint8:
        raise _no_pixels(array, key, path)
    if array.ndim not in (3, 4):
        wanted = "[N, H, W], [N, H, W, C] or [N, C, H, W]"
        raise DataError(f"{path}: {key} have the shape {list(array.shape)}, not {wanted}.", "Reshape them.")
    pixels = array.astype(np.uint8, copy=False)
    if array.ndim == 3:
        return pixels[:, None]
    return pixels if _layout(array.shape, key, path, layout) == "NCHW" else pixels.transpose(0, 3, 1, 2)


def _no_pixels(array: NDArray[np.generic], key: str, path: Path) -> DataError:
    """What to say of images that are no uint8, with the line of Python that makes them so without losing what they show."""
    numbers = array.dtype == np.bool_ or np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)
    if not numbers:
        return DataError(f"{path}: {key} are {array.dtype}, not uint8.", "Store pixels from 0 to 255 as uint8.")
    some = array[:: max(1, len(array) // LOOKED_AT)].astype(np.float64)
    low, high = float(some.min()), float(some.max())
    if not np.isfinite([low, high]).all():
        return DataError(
            f"{path}: {key} are {array.dtype} with values that are not finite.", "Replace these, and store pixels as uint8."
        )
    return DataError(
        f"{path}: {key} are {array.dtype} from {low:g} to {high:g}, not uint8.",
        f"Store pixels from 0 to 255: {key} = {_as_pixels(key, low, high)}",
    )


def _require_bright(arrays: list[NDArray[np.uint8]], path: Path) -> None:
    """Refuse images that all use less than a tenth of the greys, such as masks of 0 and 1; of nearly every set a few tell."""
    for step in (max(1, len(arrays[0]) // LOOKED_AT), 1):
        high = max(int(array[::step].max()) for array in arrays)
        if high >= LEAST_BRIGHT:
            return
    if high > 0:
        likewise = ", and test_images likewise" if len(arrays) > 1 else ""
        raise DataError(
            f"{path}: images are uint8 up to {high}, but white would be 255: all would be almost black.",
            f"Store pixels from 0 to 255: images = (images * {255 / high:.6g}).round().astype(numpy.uint8){likewise}",
        )


def _as_pixels(x: str, low: float, high: float) -> str:
    """A line of Python for values of the usual ranges; filters that sharpen overshoot these by a little, which is cut."""
    if low >= 0 and high in (2**16 - 1, 2**32 - 1):
        return f"({x} / {int(high) // 255}).round().astype(numpy.uint8)"
    ranges = [(0, 1, "({} * 255)"), (-1, 1, "(({} + 1) * 127.5)")]
    if low >= 0 or high > DARK:  # else they are centred somewhere
        ranges.append((0, 255, "{}"))
    for bottom, top, scaled in ranges:
        margin = OVERSHOOT * (top - bottom)
        if bottom - margin <= low and high <= top + margin:
            within = bottom <= low and high <= top
            clipped = x if within else f"{x}.clip({bottom}, {top})"
            return f"{scaled.format(clipped)}.round().astype(numpy.uint8)"
    scale = 255 / ((high - low) or 1)
    return f"(({x} - {low:g}) * {scale:.6g}).round().clip(0, 255).astype(numpy.uint8), or undo how they were scaled"


def _layout(shape: tuple[int, ...], key: str, path: Path, layout: AnyLayout) -> str:
    fits = [name for name, channels in (("NHWC", shape[3]), ("NCHW", shape[1])) if channels <= MAX_CHANNELS]
    if layout != "auto":
        fits = [name for name in fits if name == layout]
    if len(fits) == 1:
        return fits[0]
    if not fits:
        where = "" if layout == "auto" else f" in the layout {layout}"
        raise DataError(f"{path}: {key} of shape {list(shape)} have no 1 to {MAX_CHANNELS} channels{where}.", "Reshape them.")
    raise DataError(
        f"{path}: {key} of shape {list(shape)} may have their channels last or first.",
        "Say which: --set data.layout=NHWC or --set data.layout=NCHW",
    )


def _labels(arrays: Arrays, key: str, count: int, path: Path) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The labels, and the classes' names, which are their numbers; zeros and no names where there are no labels."""
    if key not in arrays:
        return np.zeros(count, np.int64), ()
    labels = arrays[key]
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        found = f"{labels.dtype} {list(labels.shape)}"
        raise DataError(f"{path}: {key} are {found}, not {count:,} whole numbers.", "Store one for each image.")
    numbers = labels.astype(np.int64)
    if numbers.min() < 0 or numbers.max() >= count:
        found = f"{numbers.min()} to {numbers.max()}, for {count:,} images"
        raise DataError(f"{path}: {key} go from {found}.", "Number the classes 0, 1, 2 and so on, without large gaps.")
    return numbers, tuple(str(number) for number in range(int(numbers.max()) + 1))


def _split(images: ImageSet, held_out: float, source: str) -> tuple[ImageSet, ImageSet]:
    if held_out == 0:
        return images, _take(images, np.zeros(0, np.int64))
    sums = pixel_sums(images.images)
    rows = np.argsort(sums, kind="stable")
    cut = cut_at(sums[rows], held_out, source)
    return _take(images, rows[cut:]), _take(images, rows[:cut])


def _take(images: ImageSet, rows: NDArray[np.int64]) -> ImageSet:
    return ImageSet(np.ascontiguousarray(images.images[rows]), images.labels[rows], images.class_names)
