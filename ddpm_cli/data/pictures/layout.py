"""Choose the shape of images, and which are held out, from what is known of the pictures."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.pictures.settings import Pictures, PictureSettings, shown
from ddpm_cli.data.pictures.survey import Survey
from ddpm_cli.errors import DataError

Shape = tuple[int, int, int]


MOST_CHANNELS = 4
FEW_OUTLIERS = 20
"""A size is for all pictures but one in so many, or but one, if the others are far larger."""
FAR_SMALLER = 4


class Layout(NamedTuple):
    """Hold the images of a data set in their order.

    Attributes:
        rows: Number of the picture that each image is made of, int64 [N]: the held-out ones, then those to train on.
        held_out: How many are held out.
        repeats: How many were left out, or in a split of the collection's own are held out, though the other side has their pixels.
    """

    rows: NDArray[np.int64]
    held_out: int
    repeats: int = 0


def choose_shape(pictures: Pictures, found: Survey, settings: PictureSettings) -> Shape:
    """Choose channels, height and width that all images will have.

    Raises:
        DataError: If no picture can be read, or they differ in a way that the settings do not settle.
    """
    readable = found.readable
    if not len(pictures):
        raise DataError(f"There are no pictures in {pictures.source}.", "Name another one.")
    if not readable.any():
        reasons = [f"{shown(pictures.names[i])} {reason}" for i, reason in found.broken.items()]
        raise DataError(
            f"Of {counted(len(pictures))} in {pictures.source} none can be read: {first_few(reasons, 3)}.",
            "Check the files; PNG, JPEG, WebP, GIF, BMP, TIFF and PPM are read.",
        )
    if settings.channels is not None and settings.channels > MOST_CHANNELS:
        raise DataError(
            f"The pictures in {pictures.source} have at most {MOST_CHANNELS} channels, not {settings.channels}.",
            "Choose data.channels of up to 4; images of more channels are arrays (.npy, .npz).",
        )
    height, width = settings.size or _common_size(pictures, found)
    channels = _common_channels(pictures, found) if settings.channels is None else settings.channels
    return channels, height, width


def _common_size(pictures: Pictures, found: Survey) -> tuple[int, int]:
    sizes = size_counts(found)
    if len(sizes) == 1:
        return next(iter(sizes))
    listed = first_few([f"{height}x{width} ({count:,})" for (height, width), count in sizes.most_common()])
    size, smaller = _suggested(found)
    leave = f" with --set data.small=skip, which leaves out {counted(smaller)}" if smaller else ""
    raise DataError(
        f"The pictures in {pictures.source} have {len(sizes):,} sizes, height x width: {listed}.",
        f"Say what size to bring them to: --size {size}{leave} (or another HxW).",
    )


def _suggested(found: Survey) -> tuple[int, int]:
    """The largest usual size that hardly any picture must be enlarged for, and how many must be."""
    sides = np.sort(np.minimum(found.heights, found.widths)[found.readable])
    typical = sides[min(max(1, len(sides) // FEW_OUTLIERS), len(sides) - 1)]
    side = int(typical if sides[0] * FAR_SMALLER < typical else sides[0])
    size = max((size for size in (16, 32, 64, 128, 256) if size <= side), default=side)
    return size, int((sides < size).sum())


def size_counts(found: Survey) -> Counter[tuple[int, int]]:
    """Count readable pictures of each height and width."""
    readable = found.readable
    sizes, counts = np.unique(np.stack([found.heights[readable], found.widths[readable]], 1), axis=0, return_counts=True)
    return Counter({(height, width): count for (height, width), count in zip(sizes.tolist(), counts.tolist(), strict=True)})


def _common_channels(pictures: Pictures, found: Survey) -> int:
    grey = found.readable & (found.channels == 1)
    colour = found.readable & (found.channels == 3)
    if not grey.any() or not colour.any():
        return 1 if grey.any() else 3
    rarer = grey if grey.sum() <= colour.sum() else colour
    names = first_few([shown(pictures.names[i]) for i in np.flatnonzero(rarer).tolist()], 3)
    raise DataError(
        f"Of the pictures in {pictures.source} {grey.sum():,} are grey and {colour.sum():,} are colour; the rarer ones: {names}.",
        "Make all of them colour with --set data.channels=3, or all grey with --set data.channels=1.",
    )


def choose_layout(pictures: Pictures, found: Survey, shape: Shape, settings: PictureSettings) -> Layout:
    """Choose which pictures become images, which of these are held out, and their order.

    Where the collection has no split, the sum of a picture's bytes decides: so copies of one picture land on the same side, and
    others that are added move none. The order is that of the sums too, so that every prefix is mixed by class.

    Raises:
        DataError: If there is nothing to train on or, though some are wanted, nothing to hold out, or pictures are too small.
    """
    usable = found.readable & ~_skipped(pictures, found, shape, settings)
    rows = np.flatnonzero(usable)
    rows = rows[np.argsort(found.hashes[rows], kind="stable")]
    _require_classes(pictures, rows)
    if pictures.held_out is not None:
        return _given_split(pictures, rows, pictures.held_out[rows])
    return Layout(rows, cut_at(found.hashes[rows], settings.held_out, pictures.source))


def too_small(found: Survey, shape: Shape) -> NDArray[np.bool_]:
    """Tell which readable pictures would have to be enlarged, bool [N]."""
    return found.readable & ((found.heights < shape[1]) | (found.widths < shape[2]))


def _skipped(pictures: Pictures, found: Survey, shape: Shape, settings: PictureSettings) -> NDArray[np.bool_]:
    small = too_small(found, shape)
    if settings.small == "enlarge":
        return np.zeros_like(small)
    numbers = np.flatnonzero(small).tolist()
    everything = bool(small.sum() == found.readable.sum())
    if numbers and (settings.small == "refuse" or everything):
        listed = [f"{shown(pictures.names[i])} ({found.heights[i]}x{found.widths[i]})" for i in numbers]
        size, smaller = _suggested(found)
        remedies = [f"choose a smaller size (--size {size})"] if size < max(shape[1:]) and not smaller else []
        remedies += [] if everything else ["leave them out with --set data.small=skip"]
        remedy = ", ".join([*remedies, ("or " if remedies else "") + "enlarge them with --set data.small=enlarge"])
        raise DataError(
            f"{len(numbers):,} of {found.readable.sum():,} pictures in {pictures.source} are smaller than "
            f"{shape[1]}x{shape[2]}: {first_few(listed)}.",
            f"{remedy[0].upper()}{remedy[1:]}.",
        )
    return small


def _require_classes(pictures: Pictures, rows: NDArray[np.int64]) -> None:
    counts = np.bincount(pictures.labels[rows], minlength=len(pictures.class_names))
    empty = [shown(name) for name, count in zip(pictures.class_names, counts, strict=False) if not count]
    if empty:
        raise DataError(
            f"There are no pictures to use of the class {first_few(empty)} in {pictures.source}.",
            "Give it some, or remove the class; that of a folder is its subfolder.",
        )


def _given_split(pictures: Pictures, rows: NDArray[np.int64], held_out: NDArray[np.bool_]) -> Layout:
    if held_out.all() or not held_out.any():
        side = "train on" if held_out.all() else "hold out"
        raise DataError(f"The split of {pictures.source} has no pictures to {side} that can be used.", "Add some to that side.")
    return Layout(np.concatenate([rows[held_out], rows[~held_out]]), int(held_out.sum()))


def without_repeats(layout: Layout, sums: NDArray[np.uint64], pictures: Pictures) -> tuple[Layout, NDArray[np.bool_]]:
    """Keep images of equal pixels on one side of the held-out split: those that are held out go, as they are trained on.

    If that would leave none, those to train on go. A split of the collection's own stays as it is, and is told of.

    Args:
        layout: Of all images.
        sums: Of the pixels of each, in the order of the layout, uint64 [N].
        pictures: Where they came from.
    Returns:
        The layout without repeats, and which images are left in it, bool [N].
    Raises:
        DataError: If all images are the same.
    """
    both = _on_both_sides(layout, sums)
    held_out = np.arange(len(sums)) < layout.held_out
    repeats = int((both & held_out).sum())
    if pictures.held_out is not None:
        return layout._replace(repeats=repeats), np.ones(len(sums), np.bool_)
    gone = both & held_out if repeats < layout.held_out else both & ~held_out
    if layout.held_out and gone[layout.held_out :].all():
        raise _only_copies(len(sums), pictures.source)
    return Layout(layout.rows[~gone], int((held_out & ~gone).sum()), int(gone.sum())), ~gone


def _on_both_sides(layout: Layout, sums: NDArray[np.uint64]) -> NDArray[np.bool_]:
    held_out, training = sums[: layout.held_out], sums[layout.held_out :]
    return np.concatenate([np.isin(held_out, training), np.isin(training, held_out)])


def cut_at(hashes: NDArray[np.uint64], share: float, source: str) -> int:
    """Count the images to hold out: those whose sums are below a threshold, but at least one, and not all.

    Args:
        hashes: Their sums, random and sorted, uint64 [N], N at least 1.
        share: Of the images, in [0, 1); 0 holds out none.
        source: Where they came from, for an error.
    Raises:
        DataError: If the images are all the same, so that there is only one side to put them on.
    """
    if share == 0:
        return 0
    starts = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]])  # where an image is no copy of the one before
    if len(starts) < 2:
        raise _only_copies(len(hashes), source)
    below = int(np.searchsorted(hashes, np.uint64(int(share * 2**64))))
    return int(np.clip(below, starts[1], starts[-1]))


def _only_copies(count: int, source: str) -> DataError:
    found = "is only one image" if count == 1 else f"are only {count:,} copies of one image"
    return DataError(
        f"There {found} in {source}, so none can be held out.",
        "Add others, or train without held-out images: --set data.held_out=0",
    )
