"""Load decoded images from the cache on disk, mapped into memory, where an earlier start wrote them; else have them written.

What is found is checked against the sums that were written with it; damage is told, and the pictures are decoded again. Entries
are found by the content of the pictures. `fingerprints/` beside them says which content a fingerprint stood for, so that no picture
is read at a second start.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.array_files import read_array
from ddpm_cli.core.io.downloads import cache_directory
from ddpm_cli.core.io.files import (
    UnreadableError,
    atomic_write,
    open_descriptor,
    output_errors,
    read_text,
    to_json,
)
from ddpm_cli.core.io.temporaries import TEMPORARY_PREFIX, remove
from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.cache.entry import LABELS, PIXELS, Entry, open_entry
from ddpm_cli.data.cache.writing import build_entry
from ddpm_cli.data.images import Dataset, ImageSet, repeats_notice
from ddpm_cli.data.pictures.decode import DECODER_VERSION
from ddpm_cli.data.pictures.plan import require_all_readable
from ddpm_cli.data.pictures.settings import Pictures, PictureSettings, shown
from ddpm_cli.data.pictures.survey import survey
from ddpm_cli.data.scale import Scale
from ddpm_cli.results.events import Listener, Notice, ignore

KEY_VERSION = 1
"""Of its name, which goes by what the pixels are: an entry of an older layout is found, and made anew in its place."""
KEPT_DEPTH = ".depth"
"""Ends the names of fingerprints: those of earlier versions, which kept but 8 bits, have another content of a deep set."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


def load_pictures(pictures: Pictures, settings: PictureSettings, on_event: Listener = ignore) -> Dataset:
    """Load the images of a collection, decoded now or in an earlier start.

    Args:
        pictures: The collection.
        settings: What becomes of them.
        on_event: Told of the progress.
    Returns:
        Images mapped from the cache: memory holds only what is looked at. They may be written to, which the file never sees.
    Raises:
        DataError: If the pictures and the settings make no data set.
        OutputError: If the cache cannot be written.
    """
    root = cache_directory() / "images"
    with output_errors(root):
        (root / "fingerprints").mkdir(parents=True, exist_ok=True)
    remembered = root / "fingerprints" / f"{pictures.fingerprint}{KEPT_DEPTH}"
    content = _read_content(remembered)
    folder = known = root / _key(content, pictures, settings) if content else None
    entry = open_entry(known, pictures.source, on_event) if known else None
    if folder is None or entry is None:
        found = survey(pictures, on_event)
        folder = root / _key(found.content, pictures, settings)
        with _alone(folder, on_event):
            listen = ignore if folder == known else on_event  # what is wrong with that one has been told
            entry = open_entry(folder, pictures.source, listen) or build_entry(folder, pictures, settings, found, on_event)
        _remember(remembered, found.content, pictures, on_event)
    return _dataset(folder, entry, pictures, settings)


def _remember(path: Path, content: str, pictures: Pictures, on_event: Listener) -> None:
    """Keep which content the fingerprint stands for, unless the pictures changed after it was taken."""
    if pictures.fingerprint_now is not None and pictures.fingerprint_now() != pictures.fingerprint:
        message = f"Pictures of {pictures.source} changed while they were read: those from before are used, this once."
        on_event(Notice(message, important=True))
        return
    atomic_write(path, content)


def _read_content(remembered: Path) -> str | None:
    with contextlib.suppress(OSError, UnreadableError):
        content = read_text(remembered)
        return content if _SHA256.fullmatch(content) else None
    return None


def _key(content: str, pictures: Pictures, settings: PictureSettings) -> str:
    of_pixels = {key: value for key, value in asdict(settings).items() if key not in ("strict", "range")}
    if settings.range != "auto":  # which older keys do not name
        of_pixels["range"] = settings.range
    versions = {"version": KEY_VERSION, "decoder": DECODER_VERSION}
    about = to_json({**versions, "content": content, "classes": list(pictures.class_names), **of_pixels})
    return hashlib.sha256(about.encode()).hexdigest()[:32]


def _dataset(folder: Path, entry: Entry, pictures: Pictures, settings: PictureSettings) -> Dataset:
    if settings.strict:
        require_all_readable(pictures, entry.unreadable)
    pixels = np.memmap(folder / PIXELS[entry.stored], np.dtype(entry.stored), mode="c", shape=entry.shape)
    labels = read_array(folder / LABELS)
    held_out, training = slice(0, entry.held_out), slice(entry.held_out, None)
    return Dataset(
        pictures.name,
        pictures.source,
        ImageSet(pixels[training], labels[training], entry.class_names),
        ImageSet(pixels[held_out], labels[held_out], entry.class_names),
        entry.sha256,
        (*pictures.notices, *_notices(entry, pictures, labels[training]), *entry.scale_notices),
        tuple(entry.unreadable),
        repeats=0 if pictures.held_out is None else entry.repeats,
        by_content=True,
        scale=Scale(*entry.scale),
    )


def _notices(entry: Entry, pictures: Pictures, labels: NDArray[np.int64]) -> Iterator[str]:
    if entry.unreadable:
        more = f" Their names: {pictures.check}" if pictures.check else ""
        yield (
            f"Left out {counted(len(entry.unreadable))} of {pictures.source} that cannot be read: "
            f"{first_few([shown(name) for name in entry.unreadable])}.{more}"
        )
    if entry.small:
        yield f'Left out {counted(entry.small)} smaller than {entry.shape[2]}x{entry.shape[3]} (data.small = "skip").'
    yield from entry.remarks
    if entry.repeats:
        yield repeats_notice(entry.repeats, left_out=pictures.held_out is None)
    counts = np.bincount(labels, minlength=len(entry.class_names))
    if absent := [name for name, count in zip(entry.class_names, counts, strict=False) if not count]:
        yield f"No picture of the class {first_few(absent)} is left to train on: all of them are held out."


@contextlib.contextmanager
def _alone(folder: Path, on_event: Listener) -> Iterator[None]:
    """Make others that want the same entry wait for the one that decodes it; where a file system has no locks, none waits."""
    lock = folder.with_name(f".lock-{folder.name}")
    with output_errors(lock):
        descriptor = open_descriptor(lock, os.O_RDWR | os.O_CREAT)
    try:
        with contextlib.suppress(OSError):
            _wait_for(descriptor, on_event)
            for leftover in folder.parent.glob(f"{TEMPORARY_PREFIX}{folder.name}-*"):
                remove(leftover)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, on_event: Listener) -> None:
    from filelock import lock_descriptor

    if not lock_descriptor(descriptor, blocking=False):
        on_event(Notice("Another process decodes the same pictures; waiting for it."))
        lock_descriptor(descriptor)
