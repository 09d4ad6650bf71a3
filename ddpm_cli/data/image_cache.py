"""Decoded images on disk, mapped into memory: written once, as a whole or not at all, and found again by their content.

An entry is a folder below `cache_directory()/images`, named after the content of the pictures and the settings:

    images.u8     the pixels, uint8 [N, C, H, W], held-out images first
    labels.npy    int64 [N]
    entry.json    shape, number held out, class names, sum of the training images, what could not be read

`fingerprints/` beside the entries says which content a fingerprint stood for, so that nothing is read at a second start.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.array_files import read_array
from ddpm_cli.data.cache import cache_directory
from ddpm_cli.data.images import Dataset, ImageSet, pixel_sum
from ddpm_cli.data.layout import Layout, Shape, choose_layout, choose_shape, repeats_notice, too_small, without_repeats
from ddpm_cli.data.parallel import in_parallel
from ddpm_cli.data.picture import decode, quiet_decoders
from ddpm_cli.data.pictures import Pictures, PictureSettings, printable
from ddpm_cli.data.survey import Survey, find_damaged, survey
from ddpm_cli.errors import DataError, OutputError
from ddpm_cli.events import DataProgress, Listener, Notice, ignore
from ddpm_cli.files import (
    TEMPORARY_PREFIX,
    UnreadableError,
    atomic_write,
    discard_folder,
    output_errors,
    read_json_object,
    read_text,
    remove,
    to_json,
    write_new,
)
from ddpm_cli.wording import counted, first_few

VERSION = 1
PIXELS, LABELS, ENTRY = "images.u8", "labels.npy", "entry.json"
COPY_BYTES = 1 << 24
_SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_UNREADABLE = 20_000


@dataclass(frozen=True)
class Entry:
    """What `entry.json` holds.

    Attributes:
        version: Of this layout.
        shape: Images, channels, height, width.
        held_out: Images held out, the first ones.
        class_names: Name of each class.
        sha256: Of the bytes of the training images.
        unreadable: Why a picture could not be read, by its name.
        small: Pictures left out because they are smaller than the size asked for.
        repeats: See `layout.Layout`.
    """

    version: int
    shape: tuple[int, int, int, int]
    held_out: int
    class_names: tuple[str, ...]
    sha256: str
    unreadable: dict[str, str]
    small: int
    repeats: int = 0


def load_pictures(pictures: Pictures, settings: PictureSettings, on_event: Listener = ignore) -> Dataset:
    """The images of a collection, decoded now or in an earlier start.

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
    remembered = root / "fingerprints" / pictures.fingerprint
    content, found = _read_content(remembered), None
    if content is None:
        found = survey(pictures, on_event)
        content = found.content
    folder = root / _key(content, pictures, settings)
    entry = _read_entry(folder)
    if entry is None:
        with _alone(folder, on_event):
            entry = _read_entry(folder)
            if entry is None:
                entry = _build(folder, pictures, settings, found or survey(pictures, on_event), on_event)
    if found is not None:
        atomic_write(remembered, content)
    return _dataset(folder, entry, pictures, settings)


def _read_content(remembered: Path) -> str | None:
    with contextlib.suppress(OSError, UnreadableError):
        content = read_text(remembered)
        return content if _SHA256.fullmatch(content) else None
    return None


def _key(content: str, pictures: Pictures, settings: PictureSettings) -> str:
    of_pixels = {key: value for key, value in asdict(settings).items() if key != "strict"}
    about = to_json({"version": VERSION, "content": content, "classes": list(pictures.class_names), **of_pixels})
    return hashlib.sha256(about.encode()).hexdigest()[:32]


def _read_entry(folder: Path) -> Entry | None:
    """What a complete entry says; None where there is none, or one that does not fit its own description."""
    try:
        values = read_json_object(folder / ENTRY)
        values["shape"], values["class_names"] = tuple(values["shape"]), tuple(values["class_names"])
        entry = Entry(**values)
        whole = _is_sound(entry) and os.path.getsize(folder / PIXELS) == math.prod(entry.shape)
        return entry if whole and _are_labels(read_array(folder / LABELS), entry) else None
    except (OSError, UnreadableError, KeyError, TypeError):
        return None


def _is_sound(entry: Entry) -> bool:
    """Whether each value is of its kind: a disk may give back something else than was written."""
    counts = (*entry.shape, entry.held_out, entry.small, entry.repeats)
    if not isinstance(entry.unreadable, dict):
        return False
    texts = (*entry.class_names, *entry.unreadable.values(), entry.sha256)
    return (
        entry.version == VERSION
        and len(entry.shape) == 4
        and all(isinstance(count, int) and count >= 0 for count in counts)
        and math.prod(entry.shape) > 0
        and entry.held_out <= entry.shape[0]
        and all(isinstance(text, str) for text in texts)
    )


def _are_labels(labels: NDArray[np.int64], entry: Entry) -> bool:
    whole = labels.dtype == np.int64 and labels.shape == entry.shape[:1]
    return whole and labels.min() >= 0 and labels.max() < max(1, len(entry.class_names))


@contextlib.contextmanager
def _alone(folder: Path, on_event: Listener) -> Iterator[None]:
    """Make others that want the same entry wait for the one that decodes it; where a file system has no locks, none waits."""
    lock = folder.with_name(f".lock-{folder.name}")
    with output_errors(lock):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        with contextlib.suppress(OSError):
            _wait_for(descriptor, on_event)
            for leftover in folder.parent.glob(f"{TEMPORARY_PREFIX}{folder.name}-*"):
                remove(leftover)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, on_event: Listener) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_event(Notice("Another process decodes the same pictures; waiting for it."))
        fcntl.flock(descriptor, fcntl.LOCK_EX)


# ------------------------------------------------------------------------------------------------------------- writing


def _build(folder: Path, pictures: Pictures, settings: PictureSettings, found: Survey, on_event: Listener) -> Entry:
    shape, layout = plan(pictures, found, settings, on_event)
    _require_space(folder.parent, len(layout.rows), shape)
    temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{folder.name}-", dir=folder.parent))
    try:
        with output_errors(folder):
            entry = _write(temporary, pictures, settings, found, shape, layout, on_event)
            _publish(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return entry


def plan(pictures: Pictures, found: Survey, settings: PictureSettings, on_event: Listener = ignore) -> tuple[Shape, Layout]:
    """Shape and layout of the images; before pictures are refused, those that are damaged are set aside.

    Raises:
        DataError: If the pictures and the settings make no data set.
    """
    try:
        shape = choose_shape(pictures, found, settings)
        return shape, choose_layout(pictures, found, shape, settings)
    except DataError:
        find_damaged(pictures, found, on_event)
    shape = choose_shape(pictures, found, settings)
    return shape, choose_layout(pictures, found, shape, settings)


def _require_space(folder: Path, count: int, shape: Shape) -> None:
    wanted, free = count * int(np.prod(shape)), shutil.disk_usage(folder).free
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
    on_event: Listener,
) -> Entry:
    # By pwrite and not through a mapping, in which a full disk is a signal that kills, and whose pages count as memory in use.
    descriptor = os.open(folder / PIXELS, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        sums = _decode_all(descriptor, pictures, settings, found, shape, layout.rows, on_event)
        whole = choose_layout(pictures, found, shape, settings)  # without those that turned out to be damaged
        kept = np.isin(layout.rows, whole.rows)
        whole, kept[kept] = without_repeats(whole, sums[kept], pictures)
        _close_gaps(descriptor, kept, int(np.prod(shape)))
        sha256 = _sum_from(descriptor, whole.held_out * int(np.prod(shape)))
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
        whole.repeats,
    )
    write_new(folder / ENTRY, to_json(asdict(entry)))
    return entry


def unreadable(pictures: Pictures, found: Survey) -> dict[str, str]:
    """Why each picture that cannot be read cannot, by its name.

    Raises:
        DataError: If there are so many that nobody would list them.
    """
    if len(found.broken) > MAX_UNREADABLE:
        raise DataError(f"{len(found.broken):,} pictures in {pictures.source} cannot be read.", "Check where they come from.")
    return {printable(pictures.names[number]): found.broken[number] for number in sorted(found.broken)}


def _decode_all(
    descriptor: int,
    pictures: Pictures,
    settings: PictureSettings,
    found: Survey,
    shape: Shape,
    rows: NDArray[np.int64],
    on_event: Listener,
) -> NDArray[np.uint64]:
    """Write the image of each row, and return the first 64 bits of the sum of its pixels, uint64 [N]."""
    sums = np.zeros(len(rows), np.uint64)
    with quiet_decoders():
        work = partial(_decode_row, descriptor, pictures, settings.background, shape, rows, sums)
        for row, reason in enumerate(in_parallel(work, range(len(rows)))):
            if reason:
                found.broken[int(rows[row])] = reason
            on_event(DataProgress(row + 1, len(rows), "decoding pictures"))
    return sums


def _decode_row(
    descriptor: int,
    pictures: Pictures,
    background: str,
    shape: Shape,
    rows: NDArray[np.int64],
    sums: NDArray[np.uint64],
    row: int,
) -> str:
    try:
        content = pictures.read(int(rows[row]))
    except (OSError, UnreadableError) as error:
        return f"cannot be opened: {error}"
    try:
        image = decode(content, shape, background)
    except UnreadableError as error:
        return str(error)
    _write_at(descriptor, image.data.cast("B"), row * image.nbytes)
    sums[row] = pixel_sum(image)
    return ""


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _close_gaps(descriptor: int, kept: NDArray[np.bool_], image_bytes: int) -> None:
    """Move the images that stay to the front and cut the file behind them."""
    kept_rows = np.flatnonzero(kept).tolist()
    for target, row in enumerate(kept_rows):
        if target != row:
            _write_at(descriptor, memoryview(os.pread(descriptor, image_bytes, row * image_bytes)), target * image_bytes)
    os.ftruncate(descriptor, len(kept_rows) * image_bytes)


def _sum_from(descriptor: int, offset: int) -> str:
    digest = hashlib.sha256()
    while data := os.pread(descriptor, COPY_BYTES, offset):
        digest.update(data)
        offset += len(data)
    return digest.hexdigest()


def _publish(temporary: Path, folder: Path) -> None:
    """Give a finished entry its name. If it has appeared meanwhile, which only happens without locks, that one stays."""
    if _read_entry(folder) is None and folder.exists():
        discard_folder(folder)
    try:
        os.rename(temporary, folder)
    except OSError:
        if _read_entry(folder) is None:
            raise
        shutil.rmtree(temporary, ignore_errors=True)


# ------------------------------------------------------------------------------------------------------------- reading


def _dataset(folder: Path, entry: Entry, pictures: Pictures, settings: PictureSettings) -> Dataset:
    if settings.strict:
        require_all_readable(pictures, entry.unreadable)
    pixels = np.memmap(folder / PIXELS, np.uint8, mode="c", shape=entry.shape)
    labels = read_array(folder / LABELS)
    held_out, training = slice(0, entry.held_out), slice(entry.held_out, None)
    return Dataset(
        pictures.name,
        pictures.source,
        ImageSet(pixels[training], labels[training], entry.class_names),
        ImageSet(pixels[held_out], labels[held_out], entry.class_names),
        entry.sha256,
        (*pictures.notices, *_notices(entry, pictures, labels[training])),
        tuple(entry.unreadable),
    )


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


def _notices(entry: Entry, pictures: Pictures, labels: NDArray[np.int64]) -> Iterator[str]:
    if entry.unreadable:
        more = f" Their names: {pictures.check}" if pictures.check else ""
        yield (
            f"Left out {counted(len(entry.unreadable))} of {pictures.source} that cannot be read: "
            f"{first_few(list(entry.unreadable))}.{more}"
        )
    if entry.small:
        yield f'Left out {counted(entry.small)} smaller than {entry.shape[2]}x{entry.shape[3]} (data.small = "skip").'
    if entry.repeats:
        yield repeats_notice(entry.repeats, left_out=pictures.held_out is None)
    counts = np.bincount(labels, minlength=len(entry.class_names))
    if absent := [name for name, count in zip(entry.class_names, counts, strict=False) if not count]:
        yield f"No picture of the class {first_few(absent)} is left to train on: all of them are held out."
