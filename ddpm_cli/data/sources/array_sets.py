"""Make a data set of arrays in memory, whatever file they come from: layout, range, labels, what is held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data.images import Dataset, ImageSet, count_repeats, images_sha256, pixel_sums, repeats_notice
from ddpm_cli.data.pictures.layout import cut_at
from ddpm_cli.data.ranges import LEAST_BRIGHT, Range, Values, choose_scale, clipped_notice, kind_of, to_stored
from ddpm_cli.data.scale import USUAL, Scale
from ddpm_cli.errors import DataError

USUAL_CHANNELS, MAX_CHANNELS = 4, 16
"""Of these the fewer go first where a shape may have its channels last or first."""
LOOKED_AT = 1000
"""Images whose values are looked at to say what they are."""
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
        said_range: What the format says is black and white; None if it does not.
    """

    name: str
    origin: str
    train: ArrayPart
    test: ArrayPart | None = None
    layout: AnyLayout = "auto"
    class_names: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    said_range: tuple[float, float] | None = None


def dataset_of(found: ArraySet, held_out: float = 0.1, *, value_range: Range = "auto") -> Dataset:
    """Make a data set of arrays.

    Args:
        found: What a reader found.
        held_out: Share of the images that is held out where the file has no such images. As for folders, the sum of an image's
            bytes decides, and the images are put into the order of these sums.
        value_range: Which values are black and white; see `ranges.Range`.
    Returns:
        The images in memory; those that are mapped from a file and not split stay mapped.
    Raises:
        DataError: If the arrays are no images, or their layout cannot be told, or labels do not fit.
    """
    parts = [found.train] if found.test is None else [found.train, found.test]
    arrays = [_images(part, found) for part in parts]
    if arrays[0].shape[1:] != arrays[-1].shape[1:]:
        raise DataError(
            f"{found.origin}: {parts[0].key} are {arrays[0].shape[1:]} and {parts[-1].key} {arrays[-1].shape[1:]}.",
            "Make them equal.",
        )
    if (parts[0].labels is None) != (parts[-1].labels is None):
        raise DataError(
            f"{found.origin} has labels for one of {parts[0].key} and {parts[-1].key} only.", "Give both labels, or none."
        )
    labels = [_labels(parts[0], len(arrays[0]), found)]
    labels += [_labels(part, len(array), found, len(labels[0][1])) for part, array in zip(parts[1:], arrays[1:], strict=True)]
    names = max((own for _, own in labels), key=len)
    scale, notice = _scale(arrays, found, value_range)
    kept = [_kept(array, scale) for array in arrays]
    outside = sum(count for _, count in kept)
    notices = (*found.notices, *([notice] if notice else []), *([clipped_notice(outside, scale)] if outside else []))
    sets = [ImageSet(images, numbers, names) for (images, _), (numbers, _) in zip(kept, labels, strict=True)]
    source, repeats, is_split = f"the file {found.origin}", 0, found.test is None and held_out > 0
    if found.test is None:
        train, test = _split(sets[0], held_out, source)
    else:
        train, test = sets
        repeats = count_repeats(train, test)
        notices = (*notices, repeats_notice(repeats, left_out=False)) if repeats else notices
    sha256 = images_sha256(train.images)
    return Dataset(found.name, source, train, test, sha256, notices, repeats=repeats, by_content=is_split, scale=scale)


def _images(part: ArrayPart, found: ArraySet) -> NDArray[np.generic]:
    """The images as [N, C, H, W]."""
    array, key, path = part.images, part.key, found.origin
    if not array.size:
        raise DataError(f"{path}: {key} of shape {list(array.shape)} are empty.", "Name a file that holds images.")
    if not (array.dtype == np.bool_ or np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise DataError(f"{path}: {key} are {array.dtype}, no numbers that are pixels.", "Store whole numbers or floats.")
    if array.ndim not in (3, 4):
        wanted = "[N, H, W], [N, H, W, C] or [N, C, H, W]"
        raise DataError(f"{path}: {key} have the shape {list(array.shape)}, not {wanted}.", "Reshape them.")
    if array.dtype == np.float16:  # whose largest value is close
        array = array.astype(np.float32)
    if array.ndim == 3:
        return array[:, None]
    return array if _layout(array.shape, key, path, found.layout) == "NCHW" else array.transpose(0, 3, 1, 2)


def _scale(arrays: list[NDArray[np.generic]], found: ArraySet, value_range: Range) -> tuple[Scale, str]:
    """Which values are black and white, and what to say of it."""
    kinds = {kind_of(array.dtype) for array in arrays}
    if len(kinds) > 1 and found.test is not None:
        kept = f"{found.train.key} are {arrays[0].dtype} and {found.test.key} {arrays[1].dtype}"
        raise DataError(f"{found.origin}: {kept}.", "Store both as the same numbers.")
    if arrays[0].dtype == np.uint8 and value_range == "auto" and not found.said_range and _has_bright(arrays):
        return USUAL, ""
    extremes = [_extremes(array, found) for array in arrays]
    low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
    return choose_scale(value_range, Values(kinds.pop(), low, high, found.said_range, lambda: _some(arrays), is_window=True))


def _has_bright(arrays: list[NDArray[np.generic]]) -> bool:
    """Whether images of 8 bits use more than a tenth of the greys; of nearly every set a few tell."""
    for step in (max(1, len(arrays[0]) // LOOKED_AT), 1):
        if any(int(array[::step].max()) >= LEAST_BRIGHT for array in arrays):
            return True
    return False


def _extremes(array: NDArray[np.generic], found: ArraySet) -> tuple[float, float]:
    ends = [(float(part.min()), float(part.max())) for part in _parts(array)]
    if not np.isfinite(ends).all():
        raise DataError(
            f"{found.origin}: {found.train.key} are {array.dtype} with values that are not finite.",
            "Replace these, such as by numpy.nan_to_num, or leave out the images that hold them.",
        )
    return min(low for low, _ in ends), max(high for _, high in ends)


def _parts(array: NDArray[np.generic]) -> Iterator[NDArray[Any]]:
    """An array in parts of many images, so that memory holds no second copy of it."""
    for first in range(0, len(array), LOOKED_AT):
        yield array[first : first + LOOKED_AT]


def _some(arrays: list[NDArray[np.generic]]) -> NDArray[np.float64]:
    """Values of some of the images, evenly from all of them."""
    return np.concatenate([array[:: max(1, len(array) // LOOKED_AT)].astype(np.float64).ravel() for array in arrays])


def _kept(array: NDArray[np.generic], scale: Scale) -> tuple[NDArray[Any], int]:
    """The values as the scale keeps them, mapped from their file if they are that already, and how many are cut off."""
    is_within = array.dtype == np.uint8 and scale == USUAL
    outside = 0 if is_within else sum(int(((part < scale.low) | (part > scale.high)).sum()) for part in _parts(array))
    if array.dtype == scale.stored and not outside:
        return array, 0
    kept = np.empty(array.shape, scale.stored)
    for number, part in enumerate(_parts(array)):
        kept[number * LOOKED_AT :][: len(part)] = to_stored(part, scale)
    return kept, outside


def _layout(shape: tuple[int, ...], key: str, path: str, layout: AnyLayout) -> str:
    found = (("NHWC", shape[3]), ("NCHW", shape[1]))
    fits = [name for name, channels in found if channels <= USUAL_CHANNELS]
    fits = fits or [name for name, channels in found if channels <= MAX_CHANNELS]
    if layout != "auto":
        fits = [name for name, channels in found if channels <= MAX_CHANNELS and name == layout]
    if len(fits) == 1:
        return fits[0]
    if not fits:
        where = "" if layout == "auto" else f" in the layout {layout}"
        raise DataError(f"{path}: {key} of shape {list(shape)} have no 1 to {MAX_CHANNELS} channels{where}.", "Reshape them.")
    raise DataError(
        f"{path}: {key} of shape {list(shape)} may have their channels last or first.",
        "Say which: --set data.layout=NHWC or --set data.layout=NCHW",
    )


def _labels(part: ArrayPart, count: int, found: ArraySet, known: int = 0) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The labels, and the names of the classes, their numbers if the format has no names; zeros and none without labels.

    There may be as many classes as images, or as are `known` already.
    """
    labels, key = part.labels, part.label_key
    if labels is None:
        return np.zeros(count, np.int64), ()
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        kind = f"{labels.dtype} {list(labels.shape)}"
        raise DataError(f"{found.origin}: {key} are {kind}, not {count:,} whole numbers.", "Store one for each image.")
    numbers = labels.astype(np.int64)
    most = len(found.class_names) or max(count, known)
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
