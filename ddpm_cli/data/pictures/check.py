"""Look at what is in a folder of pictures or another data set, and at what training would do with it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.wording import counted
from ddpm_cli.data.images import Dataset, repeats_notice
from ddpm_cli.data.pictures.decode import quiet_decoders
from ddpm_cli.data.pictures.decoders import Decoders
from ddpm_cli.data.pictures.layout import Layout, Shape, size_counts, too_small, without_repeats
from ddpm_cli.data.pictures.plan import decoded, plan, remarks, scale_notices, unreadable
from ddpm_cli.data.pictures.reading import Read, over_pictures
from ddpm_cli.data.pictures.set_scale import LOOKED_AT, SetScale
from ddpm_cli.data.pictures.settings import Pictures, PictureSettings, printable
from ddpm_cli.data.pictures.survey import Survey, read_again, survey
from ddpm_cli.data.scale import Scale
from ddpm_cli.errors import DataError
from ddpm_cli.results.events import Listener, ignore

FREQUENT = 5
PREVIEW_IMAGES = 36
PREVIEW_BYTES = 1 << 28
HISTOGRAM_PARTS = 32

Size = tuple[int, int]


@dataclass(frozen=True)
class Sizes:
    """Hold heights and widths, as the pictures are seen.

    Attributes:
        different: How many sizes there are.
        smallest: By area.
        largest: By area.
        most_frequent: With how many pictures have it, up to five.
    """

    different: int
    smallest: Size
    largest: Size
    most_frequent: tuple[tuple[Size, int], ...]


@dataclass(frozen=True)
class Histogram:
    """Hold how often values occur in some images, as training would see them.

    Attributes:
        low: Value that is black.
        high: Value that is white.
        stored: Type that the values are kept in.
        smallest: Value of the images that were looked at.
        largest: Likewise.
        counts: Values in each of 32 equal parts from low to high.
    """

    low: float
    high: float
    stored: str
    smallest: float
    largest: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Training:
    """Hold what training would do.

    Attributes:
        refused: Why it would refuse; None if it would not. Then all else is None or 0.
        remedy: What to do about that.
        shape: Channels, height and width of all images.
        train_images: Images to train on.
        held_out_images: Images held out.
        skipped_small: Pictures left out because they are too small.
        notices: What training would say of its images.
        values: How often values occur in up to 200 of the images; None if one is too large.
    """

    refused: str | None = None
    remedy: str | None = None
    shape: Shape | None = None
    train_images: int = 0
    held_out_images: int = 0
    skipped_small: int = 0
    notices: tuple[str, ...] = ()
    values: Histogram | None = None


@dataclass(frozen=True)
class Report:
    """Hold what is in a folder, or of another data set as much as is known without files.

    Attributes:
        source: The folder.
        layout: What was recognised in the names of its folders; empty if they are classes or there are none.
        pictures: Files that are pictures by their names.
        readable: Those that can be read to the end.
        unreadable: Why the others cannot be read, by name.
        ignored_files: Files that are no pictures by their names.
        sizes: None if none can be read.
        modes: Readable pictures of each of Pillow's modes.
        formats: Readable pictures of each file format.
        classes: Readable pictures of each class.
        duplicates: Names of files with the same bytes, group by group; None where there are no files.
        same_pixels: Names of files with the same pixels that are not all the same files; None likewise.
        training: What training would do.
        notices: What else the user must know.
    """

    source: str
    layout: str
    pictures: int
    readable: int
    unreadable: dict[str, str]
    ignored_files: int
    sizes: Sizes | None
    modes: dict[str, int]
    formats: dict[str, int]
    classes: dict[str, int]
    duplicates: tuple[tuple[str, ...], ...] | None
    same_pixels: tuple[tuple[str, ...], ...] | None
    training: Training
    notices: tuple[str, ...]


def check_pictures(
    pictures: Pictures,
    settings: PictureSettings,
    on_event: Listener = ignore,
    *,
    limit: int | None = None,
    preview: bool = False,
) -> tuple[Report, NDArray[np.uint8] | None]:
    """Decode every picture and say what was found.

    Args:
        pictures: The collection.
        settings: What training would be told.
        on_event: Told of the progress.
        limit: Images to train on, at most.
        preview: Also decode some images as training would see them.
    Returns:
        The report, and up to 36 images that would be trained on, fewer if they are large, as 8 bits show them, uint8 [N, C, H, W];
        None if no preview was asked for or training would refuse.
    Raises:
        DataError: If a preview was asked for and one image alone is too large for it.
    """
    found = survey(pictures, on_event, thorough=True)
    training, images = _training(pictures, found, settings, limit, preview)
    labels = pictures.labels[found.readable]
    counts = np.bincount(labels, minlength=len(pictures.class_names)).tolist()
    report = Report(
        source=pictures.source,
        layout=pictures.layout,
        pictures=len(pictures),
        readable=int(found.readable.sum()),
        unreadable=unreadable(pictures, found),
        ignored_files=pictures.ignored_files,
        sizes=_sizes(found),
        modes=dict(found.modes.most_common()),
        formats=dict(found.formats.most_common()),
        classes=dict(zip(pictures.class_names, counts, strict=False)),
        duplicates=_groups(pictures, found.hashes, found.readable),
        same_pixels=_same_pixels(pictures, found),
        training=training,
        notices=(*pictures.notices, *remarks(pictures, found, np.flatnonzero(found.readable))),
    )
    return report, images


def _training(
    pictures: Pictures, found: Survey, settings: PictureSettings, limit: int | None, preview: bool
) -> tuple[Training, NDArray[np.uint8] | None]:
    try:
        shape, layout, scale = plan(pictures, found, settings)
        if found.pixel_hashes is not None:
            layout, _ = without_repeats(layout, found.pixel_hashes[layout.rows], pictures)
            layout = _with_limit(layout, limit, pictures, found.pixel_hashes)
    except DataError as error:
        return Training(error.message, error.remedy), None
    skipped = int(too_small(found, shape).sum()) if settings.small == "skip" else 0
    notices = (repeats_notice(layout.repeats, left_out=pictures.held_out is None),) if layout.repeats else ()
    some, outside = _some_images(pictures, found, settings, shape, layout, scale)
    notices = (*notices, *scale_notices(scale, outside, f" of {counted(len(some), 'picture')} that were looked at"))
    values = _histogram(some, scale.scale)
    training = Training(None, None, shape, len(layout.rows) - layout.held_out, layout.held_out, skipped, notices, values)
    return training, scale.scale.view_array(some[: min(_fitting(shape), PREVIEW_IMAGES)]) if preview else None


def _histogram(images: NDArray[Any], scale: Scale) -> Histogram | None:
    """How often values occur; None of no images, as there is no room for one."""
    if not len(images):
        return None
    counts, _ = np.histogram(images, HISTOGRAM_PARTS, (scale.low, scale.high))
    return Histogram(
        scale.low, scale.high, scale.stored, float(images.min()), float(images.max()), tuple(int(count) for count in counts)
    )


def _with_limit(layout: Layout, limit: int | None, pictures: Pictures, sums: NDArray[np.uint64]) -> Layout:
    """The layout without what a limit leaves out, which is no repeat in a split of the collection's own either."""
    if limit is None or limit >= len(layout.rows) - layout.held_out:
        return layout
    layout = layout._replace(rows=layout.rows[: layout.held_out + limit])
    return layout if pictures.held_out is None else without_repeats(layout, sums[layout.rows], pictures)[0]


def check_images(dataset: Dataset, *, preview: bool = False) -> tuple[Report, NDArray[np.uint8] | None]:
    """Say what is in a data set whose images are decoded already; see `check_pictures`."""
    train, test = dataset.train, dataset.test
    shape, count = dataset.image_shape, len(train) + len(test)
    some = train.images[:: max(1, len(train) // LOOKED_AT)]
    counts = np.bincount(np.concatenate([train.labels, test.labels]), minlength=len(train.class_names)).tolist()
    report = Report(
        source=dataset.source,
        layout="",
        pictures=count + len(dataset.unreadable),
        readable=count,
        unreadable=dict.fromkeys(dataset.unreadable, "cannot be read"),
        ignored_files=0,
        sizes=Sizes(1, shape[1:], shape[1:], ((shape[1:], count),)),
        modes={},
        formats={},
        classes=dict(zip(train.class_names, counts, strict=False)),
        duplicates=None,
        same_pixels=None,
        training=Training(None, None, shape, len(train), len(test), values=_histogram(some, dataset.scale)),
        notices=dataset.notices,
    )
    seen = dataset.scale.view_array(train.images[: min(_fitting(shape), PREVIEW_IMAGES)]) if preview else None
    return report, seen


def _fitting(shape: Shape) -> int:
    """How many images a preview has room for."""
    fit = PREVIEW_BYTES // int(np.prod(shape))
    if not fit:
        raise DataError(
            f"One image of {shape[1]}x{shape[2]} is too large for a preview.", "Leave out --out, or choose a smaller --size."
        )
    return fit


def _some_images(
    pictures: Pictures, found: Survey, settings: PictureSettings, shape: Shape, layout: Layout, scale: SetScale
) -> tuple[NDArray[Any], int]:
    """The first images to train on, as they are stored, as many as a preview has room for; and how many values were cut off."""
    rows = layout.rows[layout.held_out :][: min(PREVIEW_BYTES // int(np.prod(shape)), LOOKED_AT)].tolist()
    images, outside = np.empty((len(rows), *shape), scale.scale.stored), 0
    decoders = Decoders()

    def decode(read: Read, number: int) -> tuple[NDArray[Any], int]:
        content = read_again(pictures, found, read, number)
        return decoded(decoders, content, shape, settings.background, scale, int(found.depths[number]))

    with quiet_decoders(), closing(over_pictures(decode, pictures, rows, decoders.close)) as found_images:
        for place, (image, cut) in found_images:
            images[place] = image
            outside += cut
    return images, outside


def _sizes(found: Survey) -> Sizes | None:
    counts = size_counts(found)
    if not counts:
        return None
    by_area = sorted(counts, key=lambda size: (size[0] * size[1], size))
    return Sizes(len(counts), by_area[0], by_area[-1], tuple(counts.most_common(FREQUENT)))


def _groups(pictures: Pictures, hashes: NDArray[np.uint64], which: NDArray[np.bool_]) -> tuple[tuple[str, ...], ...]:
    """Names of pictures with the same sum, those groups that have more than one."""
    numbers = np.flatnonzero(which)
    order = numbers[np.argsort(hashes[numbers], kind="stable")]
    starts = np.flatnonzero(hashes[order][1:] != hashes[order][:-1]) + 1
    groups = [group for group in np.split(order, starts) if len(group) > 1]
    return tuple(sorted(tuple(printable(pictures.names[i]) for i in group.tolist()) for group in groups))


def _same_pixels(pictures: Pictures, found: Survey) -> tuple[tuple[str, ...], ...]:
    """Groups with the same pixels, in which of the files with the same bytes only the first counts."""
    if found.pixel_hashes is None:
        return ()
    first = np.zeros(len(pictures), np.bool_)
    first[np.unique(found.hashes, return_index=True)[1]] = True
    return _groups(pictures, found.pixel_hashes, found.readable & first)
