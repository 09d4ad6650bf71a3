"""Keep decoded images on disk, mapped into memory: written once, as a whole or not at all, and found again by their content.

What is found is checked against the sums that were written with it; damage is told, and the pictures are decoded again.

An entry is a folder below `cache_directory()/images`, named after the content of the pictures and the settings:

    images.u8     the pixels, uint8 [N, C, H, W], held-out images first; images.u16 where they are uint16, images.f32 of float32
    labels.npy    int64 [N]
    entry.json    shape, scale if it is not 0 to 255, number held out, class names, what could not be read; sums of the training
                  images, of all else, and of this description itself

`fingerprints/` beside the entries says which content a fingerprint stood for, so that nothing is read at a second start.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.array_files import read_array
from ddpm_cli.core.io.block_sums import DIGITS, block_sums, differing_blocks
from ddpm_cli.core.io.downloads import cache_directory
from ddpm_cli.core.io.files import (
    UnreadableError,
    atomic_write,
    discard_folder,
    open_descriptor,
    open_regular,
    output_errors,
    read_at,
    read_bytes,
    read_json_object,
    read_text,
    to_json,
    write_at,
    write_new,
)
from ddpm_cli.core.io.temporaries import TEMPORARY_PREFIX, remove
from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.images import Dataset, ImageSet, pixel_sum, repeats_notice
from ddpm_cli.data.pictures.decode import DECODER_VERSION, quiet_decoders
from ddpm_cli.data.pictures.decoders import Decoders
from ddpm_cli.data.pictures.layout import Layout, Shape, choose_layout, choose_shape, too_small, without_repeats
from ddpm_cli.data.pictures.reading import Read, over_pictures
from ddpm_cli.data.pictures.set_scale import SetScale, choose_set_scale, skipped_bits_notice
from ddpm_cli.data.pictures.settings import Pictures, PictureSettings, printable, shown
from ddpm_cli.data.pictures.survey import Survey, find_damaged, look_for_bright, read_again, survey
from ddpm_cli.data.ranges import LEAST_BRIGHT, clipped_notice
from ddpm_cli.data.scale import USUAL, Scale, Stored
from ddpm_cli.errors import DataError, OutputError
from ddpm_cli.results.events import DataProgress, Listener, Notice, ignore

VERSION = 2
"""Of an entry's layout."""
KEY_VERSION = 1
"""Of its name, which goes by what the pixels are: an entry of an older layout is found, and made anew in its place."""
PIXELS: dict[Stored, str] = {"uint8": "images.u8", "uint16": "images.u16", "float32": "images.f32"}
LABELS, ENTRY = "labels.npy", "entry.json"
KEPT_DEPTH = ".depth"
"""Ends the names of fingerprints: those of earlier versions, which kept but 8 bits, have another content of a deep set."""
COPY_BYTES = 1 << 24
_SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_UNREADABLE = 20_000
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
    entry = _open_entry(known, pictures.source, on_event) if known else None
    if folder is None or entry is None:
        found = survey(pictures, on_event)
        folder = root / _key(found.content, pictures, settings)
        with _alone(folder, on_event):
            listen = ignore if folder == known else on_event  # what is wrong with that one has been told
            entry = _open_entry(folder, pictures.source, listen) or build_entry(folder, pictures, settings, found, on_event)
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


def _open_entry(folder: Path, source: str = "", on_event: Listener = ignore) -> Entry | None:
    """What an entry says; None where there is none, or one that is damaged, which is told."""
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


# ------------------------------------------------------------------------------------------------------------- writing


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
    if os.path.lexists(folder) and _open_entry(folder) is None:
        discard_folder(folder)
    try:
        os.rename(temporary, folder)
    except OSError:
        if _open_entry(folder) is None:
            raise
        shutil.rmtree(temporary, ignore_errors=True)


# ------------------------------------------------------------------------------------------------------------- reading


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
