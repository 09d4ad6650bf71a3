"""Make a data set of arrays in memory, whatever file they come from: layout, range, labels, what is held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data.images import Dataset, ImageSet, count_repeats, images_sha256, pixel_sums, repeats_notice
from ddpm_cli.data.pictures.layout import cut_at
from ddpm_cli.data.pictures.white_level import LEAST_BRIGHT
from ddpm_cli.errors import DataError

MAX_CHANNELS = 4
LOOKED_AT = 1000
"""Images whose values are looked at to say what they are."""
OVERSHOOT = 0.05
DARK = 25
AnyLayout = Literal["auto", "NHWC", "NCHW"]


@dataclass(frozen=True, eq=False)
class ArrayPart:
    """Hold images as a file holds them.

    Attributes:
        images: Any numbers, [N, H, W], [N, H, W, C] or [N, C, H, W].
        labels: Whole numbers from 0 on, [N]; None where there are none.
        key: What the file calls the images, for messages.
        label_key: What it calls the labels.
    """

    images: NDArray[np.generic]
    labels: NDArray[np.generic] | None = None
    key: str = "images"
    label_key: str = "labels"


@dataclass(frozen=True, eq=False)
class ArraySet:
    """Hold what a reader of arrays found.

    Attributes:
        name: What the set is called.
        origin: The file or folder, for messages.
        train: Images to train on.
        test: Images that the file itself holds out; None if it has no split.
        layout: Where the channels are: what the format says, or what the user did; auto if the shape has to tell.
        class_names: Name of each class; empty if they are called by their numbers.
        notices: What the user must know, such as which format was recognised.
        said_range: Which values are black and white, as the format says; None if it does not.
    """

    name: str
    origin: str
    train: ArrayPart
    test: ArrayPart | None = None
    layout: AnyLayout = "auto"
    class_names: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    said_range: tuple[float, float] | None = None


def dataset_of(found: ArraySet, held_out: float = 0.1, *, dark: bool = False) -> Dataset:
    """Make a data set of arrays.

    Args:
        found: What a reader found.
        held_out: Share of the images that is held out where the file has no such images. As for folders, the sum of an image's
            bytes decides, and the images are put into the order of these sums.
        dark: Take images that all are almost black, as a model was trained on them.
    Returns:
        The images in memory; those that are mapped from a file and not split stay mapped.
    Raises:
        DataError: If the arrays are no images, or their layout cannot be told, or labels do not fit.
    """
    images = _images(found.train, found)
    labels, names = _labels(found.train, len(images), found)
    source, notices = f"the file {found.origin}", found.notices
    is_split = found.test is None and held_out > 0
    if found.test is not None:
        test_images = _images(found.test, found)
        if test_images.shape[1:] != images.shape[1:]:
            raise DataError(
                f"{found.origin}: {found.train.key} are {images.shape[1:]} and {found.test.key} {test_images.shape[1:]}.",
                "Make them equal.",
            )
        test_labels, test_names = _labels(found.test, len(test_images), found)
        if (found.train.labels is None) != (found.test.labels is None):
            raise DataError(
                f"{found.origin} has labels for one of {found.train.key} and {found.test.key} only.", "Give both labels, or none."
            )
        names = max(names, test_names, key=len)
        if not dark:
            _require_bright([images, test_images], found)
        train, test = ImageSet(images, labels, names), ImageSet(test_images, test_labels, names)
        repeats = count_repeats(train, test)
        notices = (*notices, repeats_notice(repeats, left_out=False)) if repeats else notices
    else:
        repeats = 0
        if not dark:
            _require_bright([images], found)
        train, test = _split(ImageSet(images, labels, names), held_out, source)
    return Dataset(found.name, source, train, test, images_sha256(train.images), notices, repeats=repeats, by_content=is_split)


def _images(part: ArrayPart, found: ArraySet) -> NDArray[np.uint8]:
    """The images as [N, C, H, W]."""
    array, key, path = part.images, part.key, found.origin
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
    return pixels if _layout(array.shape, key, path, found.layout) == "NCHW" else pixels.transpose(0, 3, 1, 2)


def _no_pixels(array: NDArray[np.generic], key: str, path: str) -> DataError:
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


def _require_bright(arrays: list[NDArray[np.uint8]], found: ArraySet) -> None:
    """Refuse images that all use less than a tenth of the greys, such as masks of 0 and 1; of nearly every set a few tell."""
    for step in (max(1, len(arrays[0]) // LOOKED_AT), 1):
        high = max(int(array[::step].max()) for array in arrays)
        if high >= LEAST_BRIGHT:
            return
    if high > 0:
        key, others = found.train.key, f", and {found.test.key} likewise" if found.test is not None else ""
        raise DataError(
            f"{found.origin}: {key} are uint8 up to {high}, but white would be 255: all would be almost black.",
            f"Store pixels from 0 to 255: {key} = ({key} * {255 / high:.6g}).round().astype(numpy.uint8){others}",
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


def _layout(shape: tuple[int, ...], key: str, path: str, layout: AnyLayout) -> str:
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


def _labels(part: ArrayPart, count: int, found: ArraySet) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The labels, and the names of the classes, their numbers if the format has no names; zeros and none without labels."""
    labels, key = part.labels, part.label_key
    if labels is None:
        return np.zeros(count, np.int64), ()
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        kind = f"{labels.dtype} {list(labels.shape)}"
        raise DataError(f"{found.origin}: {key} are {kind}, not {count:,} whole numbers.", "Store one for each image.")
    numbers = labels.astype(np.int64)
    most = len(found.class_names) or count
    if numbers.min() < 0 or numbers.max() >= most:
        between = f"{numbers.min()} to {numbers.max()}, for {count:,} images"
        raise DataError(f"{found.origin}: {key} go from {between}.", "Number the classes 0, 1, 2 and so on, without large gaps.")
    return numbers, found.class_names or tuple(str(number) for number in range(int(numbers.max()) + 1))


def _split(images: ImageSet, held_out: float, source: str) -> tuple[ImageSet, ImageSet]:
    if held_out == 0:
        return images, _take(images, np.zeros(0, np.int64))
    sums = pixel_sums(images.images)
    rows = np.argsort(sums, kind="stable")
    cut = cut_at(sums[rows], held_out, source)
    return _take(images, rows[cut:]), _take(images, rows[:cut])


def _take(images: ImageSet, rows: NDArray[np.int64]) -> ImageSet:
    return ImageSet(np.ascontiguousarray(images.images[rows]), images.labels[rows], images.class_names)
