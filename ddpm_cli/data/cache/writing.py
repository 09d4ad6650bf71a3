"""Write an entry of the cache of decoded images: once, as a whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import astuple
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.block_sums import block_sums
from ddpm_cli.core.io.files import (
    UnreadableError,
    discard_folder,
    open_descriptor,
    output_errors,
    read_at,
    write_at,
    write_new,
)
from ddpm_cli.core.io.temporaries import TEMPORARY_PREFIX
from ddpm_cli.data.cache.entry import ENTRY, LABELS, PIXELS, VERSION, Entry, described, open_entry
from ddpm_cli.data.images import pixel_sum
from ddpm_cli.data.pictures.decode import quiet_decoders
from ddpm_cli.data.pictures.decoders import Decoders
from ddpm_cli.data.pictures.layout import Layout, Shape, choose_layout, too_small, without_repeats
from ddpm_cli.data.pictures.plan import decoded, plan, remarks, scale_notices, unreadable
from ddpm_cli.data.pictures.reading import Read, over_pictures
from ddpm_cli.data.pictures.set_scale import SetScale
from ddpm_cli.data.pictures.settings import Pictures, PictureSettings
from ddpm_cli.data.pictures.survey import Survey, read_again
from ddpm_cli.errors import OutputError
from ddpm_cli.results.events import DataProgress, Listener

COPY_BYTES = 1 << 24


def build_entry(folder: Path, pictures: Pictures, settings: PictureSettings, found: Survey, on_event: Listener) -> Entry:
    """Decode all pictures into a folder, and describe them in its entry."""
    shape, layout, scale = plan(pictures, found, settings, on_event)
    _require_space(folder.parent, len(layout.rows), shape, np.dtype(scale.scale.stored).itemsize)
    with output_errors(folder):
        temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{folder.name}-", dir=folder.parent))
    try:
        with output_errors(folder):
            entry = _write(temporary, pictures, settings, found, shape, layout, scale, on_event)
            publish(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return entry


def _require_space(folder: Path, count: int, shape: Shape, value_bytes: int) -> None:
    wanted, free = count * int(np.prod(shape)) * value_bytes, shutil.disk_usage(folder).free
    if wanted > free:
        raise OutputError(
            f"Cannot write {count:,} images into {folder}: they need {wanted / 1e9:,.2f} GB and {free / 1e9:,.2f} GB are free.",
            "Choose a smaller --size, free some space, or let DDPM_CACHE name a folder on another disk.",
        )


def _write(
    folder: Path,
    pictures: Pictures,
    settings: PictureSettings,
    found: Survey,
    shape: Shape,
    layout: Layout,
    scale: SetScale,
    on_event: Listener,
) -> Entry:
    # By write_at and not through a mapping, in which a full disk is a signal that kills, and whose pages count as memory in use.
    stored = scale.scale.stored
    image_bytes = int(np.prod(shape)) * np.dtype(stored).itemsize
    descriptor = open_descriptor(folder / PIXELS[stored], os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        sums, outside = _decode_all(descriptor, pictures, settings, found, shape, scale, layout.rows, on_event)
        whole = choose_layout(pictures, found, shape, settings)  # without those that turned out to be damaged
        kept = np.isin(layout.rows, whole.rows)
        whole, kept[kept] = without_repeats(whole, sums[kept], pictures)
        _close_gaps(descriptor, kept, image_bytes)
        sha256 = _sum_from(descriptor, whole.held_out * image_bytes)
        pixel_sums = block_sums(descriptor, len(whole.rows) * image_bytes)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    np.save(folder / LABELS, pictures.labels[whole.rows], allow_pickle=False)
    entry = Entry(
        VERSION,
        (len(whole.rows), *shape),
        whole.held_out,
        pictures.class_names,
        sha256,
        unreadable(pictures, found),
        0 if settings.small == "enlarge" else int(too_small(found, shape).sum()),
        pixel_sums,
        hashlib.sha256((folder / LABELS).read_bytes()).hexdigest(),
        tuple(remarks(pictures, found, whole.rows)),
        whole.repeats,
        astuple(scale.scale),
        tuple(scale_notices(scale, int(outside[kept].sum()))),
    )
    write_new(folder / ENTRY, described(entry))
    return entry


def _decode_all(
    descriptor: int,
    pictures: Pictures,
    settings: PictureSettings,
    found: Survey,
    shape: Shape,
    scale: SetScale,
    rows: NDArray[np.int64],
    on_event: Listener,
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Write the image of each row; return the first 64 bits of the sum of its pixels, and how many are cut to the range, [N]."""
    sums, outside = np.zeros(len(rows), np.uint64), np.zeros(len(rows), np.int64)
    decoders = Decoders()
    row_of = {number: row for row, number in enumerate(rows.tolist())}
    work = partial(_decode_row, descriptor, pictures, found, settings.background, shape, scale, row_of, decoders, sums, outside)
    with quiet_decoders(), contextlib.closing(over_pictures(work, pictures, rows.tolist(), decoders.close)) as reasons:
        for done, (row, reason) in enumerate(reasons):
            if reason:
                found.broken[int(rows[row])] = reason
            on_event(DataProgress(done + 1, len(rows), "decoding pictures"))
    return sums, outside


def _decode_row(
    descriptor: int,
    pictures: Pictures,
    found: Survey,
    background: str,
    shape: Shape,
    scale: SetScale,
    row_of: Mapping[int, int],
    decoders: Decoders,
    sums: NDArray[np.uint64],
    outside: NDArray[np.int64],
    read: Read,
    number: int,
) -> str:
    row = row_of[number]
    try:
        content = read_again(pictures, found, read, number)
        image, outside[row] = decoded(decoders, content, shape, background, scale, found.depths[number])
    except UnreadableError as error:
        return str(error)
    write_at(descriptor, image.data.cast("B"), row * image.nbytes)
    sums[row] = pixel_sum(image)
    return ""


def _close_gaps(descriptor: int, kept: NDArray[np.bool_], image_bytes: int) -> None:
    """Move the images that stay to the front and cut the file behind them."""
    kept_rows = np.flatnonzero(kept).tolist()
    for target, row in enumerate(kept_rows):
        if target != row:
            write_at(descriptor, memoryview(read_at(descriptor, image_bytes, row * image_bytes)), target * image_bytes)
    os.ftruncate(descriptor, len(kept_rows) * image_bytes)


def _sum_from(descriptor: int, offset: int) -> str:
    digest = hashlib.sha256()
    while data := read_at(descriptor, COPY_BYTES, offset):
        digest.update(data)
        offset += len(data)
    return digest.hexdigest()


def publish(temporary: Path, folder: Path) -> None:
    """Give a finished entry its name. If it has appeared meanwhile, which only happens without locks, that one stays."""
    if os.path.lexists(folder) and open_entry(folder) is None:
        discard_folder(folder)
    try:
        os.rename(temporary, folder)
    except OSError:
        if open_entry(folder) is None:
            raise
        shutil.rmtree(temporary, ignore_errors=True)
