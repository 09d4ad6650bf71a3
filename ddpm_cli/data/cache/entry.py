"""Describe an entry of the cache of decoded images, and compare it with the sums that were written with it.

An entry is a folder below `cache_directory()/images`, named after the content of the pictures and the settings:

    images.u8     the pixels, uint8 [N, C, H, W], held-out images first; images.u16 where they are uint16, images.f32 of float32
    labels.npy    int64 [N]
    entry.json    shape, scale if it is not 0 to 255, number held out, class names, what could not be read; sums of the training
                  images, of all else, and of this description itself
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.array_files import read_array
from ddpm_cli.core.io.block_sums import DIGITS, block_sums, differing_blocks
from ddpm_cli.core.io.files import (
    UnreadableError,
    open_regular,
    read_bytes,
    read_json_object,
    to_json,
)
from ddpm_cli.data.scale import USUAL, Stored
from ddpm_cli.results.events import Listener, Notice, ignore

VERSION = 2
"""Of an entry's layout."""
PIXELS: dict[Stored, str] = {"uint8": "images.u8", "uint16": "images.u16", "float32": "images.f32"}
LABELS, ENTRY = "labels.npy", "entry.json"
NPY_HEADER_BYTES = 4096
"""More than the header of a .npy file of labels takes."""


@dataclass(frozen=True)
class Entry:
    """Hold what `entry.json` holds.

    Attributes:
        version: Of this layout.
        shape: Images, channels, height, width.
        held_out: Images held out, the first ones.
        class_names: Name of each class.
        sha256: Of the bytes of the training images.
        unreadable: Why a picture could not be read, by its name.
        small: Pictures left out because they are smaller than the size asked for.
        pixel_sums: Of the blocks of the pixels, see `block_sums`.
        labels_sha256: Of the file of labels.
        remarks: What else the user must know of the pictures: pages that are not used, colours that are converted.
        repeats: See `layout.Layout`.
        scale: Low and high of the `Scale`, and how the values are stored.
        scale_notices: What the user must know of it.
    """

    version: int
    shape: tuple[int, int, int, int]
    held_out: int
    class_names: tuple[str, ...]
    sha256: str
    unreadable: dict[str, str]
    small: int
    pixel_sums: str
    labels_sha256: str
    remarks: tuple[str, ...]
    repeats: int = 0
    scale: tuple[float, float, Stored] = astuple(USUAL)
    scale_notices: tuple[str, ...] = ()

    @property
    def stored(self) -> Stored:
        """Tell how the values are stored."""
        return self.scale[2]


def open_entry(folder: Path, source: str = "", on_event: Listener = ignore) -> Entry | None:
    """Read what an entry says; None where there is none, or one that is damaged, which is told.

    Args:
        folder: The entry.
        source: The collection, for the message.
        on_event: Told of damage, and of the progress.
    """
    if not os.path.lexists(folder):
        return None
    try:
        return _checked_entry(folder, on_event)
    except (OSError, UnreadableError) as error:
        reason = f"it cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        message = f"The cached images of {source} are not used, its pictures are decoded again: in {folder}, {reason}."
        on_event(Notice(message, important=True))
        return None


def _checked_entry(folder: Path, on_event: Listener) -> Entry:
    """What an entry says, after all of it was compared with its sums.

    Raises:
        UnreadableError: Naming the part that is damaged.
        OSError: If one cannot be read.
    """
    entry = _read_description(folder / ENTRY)
    with _named(PIXELS[entry.stored]):
        _check_pixels(folder / PIXELS[entry.stored], entry, on_event)
    with _named(LABELS):
        content = read_bytes(folder / LABELS, NPY_HEADER_BYTES + 8 * entry.shape[0])
        if hashlib.sha256(content).hexdigest() != entry.labels_sha256 or not _are_labels(read_array(folder / LABELS), entry):
            raise UnreadableError("does not match its sum")
    return entry


def _read_description(path: Path) -> Entry:
    with _named(path.name):
        values = read_json_object(path)
        if values.get("version") != VERSION:
            raise UnreadableError("was written by another version of ddpm, with other sums or none")
        seal = values.pop("seal", None)
        try:
            values |= {
                key: tuple(values[key]) for key in ("shape", "class_names", "remarks", "scale", "scale_notices") if key in values
            }
            entry = Entry(**values)
        except (KeyError, TypeError) as error:
            raise UnreadableError("does not describe an entry") from error
        if not _is_sound(entry) or seal != _seal(entry):
            raise UnreadableError("does not match its sum")
        return entry


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Put a file's name before the reason why it cannot be used."""
    try:
        yield
    except UnreadableError as error:
        raise UnreadableError(f"{name} {error}") from error


def _check_pixels(path: Path, entry: Entry, on_event: Listener) -> None:
    descriptor, size = open_regular(path), math.prod(entry.shape) * np.dtype(entry.stored).itemsize
    try:
        if (found := os.fstat(descriptor).st_size) != size:
            raise UnreadableError(f"has {found:,} bytes, not {size:,}")
        sums = block_sums(descriptor, size, on_event, "checking the image cache")
    finally:
        os.close(descriptor)
    if wrong := differing_blocks(sums, entry.pixel_sums):
        raise UnreadableError(f"does not match its sums in {wrong:,} of {len(sums) // DIGITS:,} blocks")


def described(entry: Entry) -> str:
    """Write the text of entry.json: what an entry says, and the sum of that."""
    return to_json({**_facts(entry), "seal": _seal(entry)})


def _seal(entry: Entry) -> str:
    return hashlib.sha256(to_json(_facts(entry)).encode()).hexdigest()


def _facts(entry: Entry) -> dict[str, Any]:
    """What an entry says; of its scale nothing if it is that of all entries of earlier versions."""
    facts = asdict(entry)
    if entry.scale == astuple(USUAL) and not entry.scale_notices:
        del facts["scale"], facts["scale_notices"]
    return facts


def _is_sound(entry: Entry) -> bool:
    """Whether each value is of its kind: a disk may give back something else than was written."""
    counts = (*entry.shape, entry.held_out, entry.small, entry.repeats)
    if not isinstance(entry.unreadable, dict):
        return False
    texts = (
        *entry.class_names,
        *entry.unreadable.values(),
        *entry.remarks,
        *entry.scale_notices,
        entry.sha256,
        entry.pixel_sums,
        entry.labels_sha256,
    )
    return (
        len(entry.shape) == 4
        and all(isinstance(count, int) and count >= 0 for count in counts)
        and math.prod(entry.shape) > 0
        and len(entry.scale) == 3
        and all(isinstance(end, int | float) for end in entry.scale[:2])
        and entry.scale[0] < entry.scale[1]
        and entry.stored in PIXELS
        and entry.held_out <= entry.shape[0]
        and all(isinstance(text, str) for text in texts)
    )


def _are_labels(labels: NDArray[np.int64], entry: Entry) -> bool:
    whole = labels.dtype == np.int64 and labels.shape == entry.shape[:1]
    return whole and labels.min() >= 0 and labels.max() < max(1, len(entry.class_names))
