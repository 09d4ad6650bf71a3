"""Plan what pictures become, an image each: shape, order, scale, and what must be said of them; decode one as planned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.pictures.decoders import Decoders
from ddpm_cli.data.pictures.layout import Layout, Shape, choose_layout, choose_shape
from ddpm_cli.data.pictures.set_scale import SetScale, choose_set_scale, skipped_bits_notice
from ddpm_cli.data.pictures.settings import Pictures, PictureSettings, printable, shown
from ddpm_cli.data.pictures.survey import Survey, find_damaged, look_for_bright
from ddpm_cli.data.ranges import LEAST_BRIGHT, clipped_notice
from ddpm_cli.errors import DataError
from ddpm_cli.results.events import Listener, ignore

MAX_UNREADABLE = 20_000


class Plan(NamedTuple):
    """Hold what pictures become.

    Attributes:
        shape: Of all images.
        layout: Which images there are.
        scale: Which values are black and white.
    """

    shape: Shape
    layout: Layout
    scale: SetScale


def plan(pictures: Pictures, found: Survey, settings: PictureSettings, on_event: Listener = ignore) -> Plan:
    """Plan shape, layout and scale of the images; before pictures are refused, those that are damaged are set aside.

    Raises:
        DataError: If the pictures and the settings make no data set.
    """
    try:
        return _planned(pictures, found, settings, on_event)
    except DataError:
        find_damaged(pictures, found, on_event)
    return _planned(pictures, found, settings, on_event)


def _planned(pictures: Pictures, found: Survey, settings: PictureSettings, on_event: Listener) -> Plan:
    shape = choose_shape(pictures, found, settings)
    layout = choose_layout(pictures, found, shape, settings)
    if settings.range == "auto":
        look_for_bright(pictures, found, layout.rows, LEAST_BRIGHT, on_event)
    return Plan(shape, layout, choose_set_scale(pictures, found, layout.rows, shape, settings))


def decoded(
    decoders: Decoders, content: bytes, shape: Shape, background: str, scale: SetScale, depth: int
) -> tuple[NDArray[Any], int]:
    """Decode a picture with the scale of its set; say how many of its values were cut off.

    Raises:
        UnreadableError: If it is damaged.
    """
    wanted = scale.wanted(depth)
    if wanted is None:
        return decoders.decode(content, shape, background), 0
    return decoders.decode_deep(content, shape, background, wanted)


def unreadable(pictures: Pictures, found: Survey) -> dict[str, str]:
    """Tell why each picture that cannot be read cannot, by its name.

    Raises:
        DataError: If there are so many that nobody would list them.
    """
    if len(found.broken) > MAX_UNREADABLE:
        raise DataError(f"{len(found.broken):,} pictures in {pictures.source} cannot be read.", "Check where they come from.")
    return {printable(pictures.names[number]): found.broken[number] for number in sorted(found.broken)}


def remarks(pictures: Pictures, found: Survey, rows: NDArray[np.int64]) -> Iterator[str]:
    """Tell what the user must know of pictures that are read, but not just as they are stored.

    Args:
        pictures: The collection.
        found: What is known of it.
        rows: Numbers of the pictures that are used, int64 [n].
    """

    def named(which: NDArray[np.bool_]) -> str:
        numbers = rows[which[rows]]
        return first_few([shown(pictures.names[number]) for number in np.sort(numbers).tolist()]) if len(numbers) else ""

    if cut := skipped_bits_notice(found, rows, pictures.source):
        yield cut
    if names := named(found.several):
        yield (
            f"Took only the first page or frame of {counted(int(found.several[rows].sum()))} of {pictures.source}: {names}. "
            "What else is to be trained on belongs in files of its own."
        )
    if names := named(found.converted):
        profiles = first_few([name for name, _ in found.profiles.most_common()], 3)
        yield f"Converted {counted(int(found.converted[rows].sum()))} of {pictures.source} to sRGB, from {profiles}: {names}."
    if names := named(found.strange_profiles):
        yield (
            f"Took the colours of {counted(int(found.strange_profiles[rows].sum()))} of {pictures.source} for sRGB, whose colour "
            f"profiles cannot be used: {names}."
        )


def scale_notices(scale: SetScale, outside: int, where: str = "") -> Iterator[str]:
    """Tell of a set's scale, and how many values it cuts off, of all pictures or of some."""
    if scale.notice:
        yield scale.notice
    if outside:
        yield clipped_notice(outside, scale.scale, where)


def require_all_readable(pictures: Pictures, unreadable: dict[str, str]) -> None:
    """Refuse a collection in which some pictures cannot be read.

    Raises:
        DataError: Naming all of them.
    """
    if unreadable:
        listed = "; ".join(f"{name} {reason}" for name, reason in unreadable.items())
        raise DataError(
            f"{counted(len(unreadable))} in {pictures.source} cannot be read: {listed}.",
            "Replace or remove them, or leave out --strict (data.strict), and they are skipped.",
        )
