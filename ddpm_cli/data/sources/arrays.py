"""Read images in files of arrays, one's own or those of others, which are recognised by their keys and shapes."""

from __future__ import annotations

from pathlib import Path

from ddpm_cli.core.io.files import printable
from ddpm_cli.data.images import Dataset
from ddpm_cli.data.ranges import Range
from ddpm_cli.data.sources.array_sets import ArraySet, dataset_of
from ddpm_cli.data.sources.containers.found import Found, Stored
from ddpm_cli.data.sources.containers.opening import look_into
from ddpm_cli.data.sources.formats.own import KEYS, read_by_key
from ddpm_cli.data.sources.formats.reader import WITHOUT_LABELS, ArrayOptions, Reader
from ddpm_cli.data.sources.formats.registry import READERS
from ddpm_cli.errors import DataError

DEFAULTS = ArrayOptions()


def load_arrays(path: Path, options: ArrayOptions = DEFAULTS, held_out: float = 0.1, *, value_range: Range = "auto") -> Dataset:
    """Load images from a file or folder of arrays; nothing in it is unpickled.

    Args:
        path: The file or folder.
        options: What the user knows of it.
        held_out: As for `dataset_of`.
        value_range: Likewise.
    Raises:
        DataError: If it is missing, damaged, of no format that is known, or its layout cannot be told.
    """
    return dataset_of(read_arrays(path, options), held_out, value_range=value_range)


def read_arrays(path: Path, options: ArrayOptions = DEFAULTS) -> ArraySet:
    """Recognise what a file or folder of arrays holds, and read it; see `load_arrays`.

    Raises:
        DataError: Likewise.
    """
    found = look_into(path)
    if options.images_key is not None:
        return read_by_key(found, options)
    reader = next((reader for reader in READERS if reader.recognises(found)), None)
    if reader is None:
        raise DataError(f"{path} is of no format that is known: it holds {found.listed()}.", _remedy(found))
    _refuse_idle(reader, options, path)
    return reader.read(found, options)


def _refuse_idle(reader: Reader, options: ArrayOptions, path: Path) -> None:
    """Refuse options that the format does not heed: what they ask for would not come about."""
    asked = {"slices": options.slices, "flat_size": options.flat_size is not None}
    for name, is_asked in asked.items():
        if is_asked and name not in reader.options:
            raise DataError(f"{path} is recognised as {reader.title}, which has no use for data.{name}.", f"Leave out data.{name}.")
    if options.labels_key is not None and options.with_labels and reader.title != "tables of pixels":
        raise DataError(
            f"{path} is recognised as {reader.title}, whose labels are known; data.labels_key goes with data.images_key.",
            f"Name both keys, or train without classes: {WITHOUT_LABELS}",
        )


def _remedy(found: Found) -> str:
    """Which options read it: the likeliest keys stand in them."""
    images = [key for key, stored in found.arrays.items() if _is_images(stored)]
    if not images:
        return f"Its images want the key {KEYS[0]}; `ddpm ls datasets` lists the formats that are known."
    largest = max(images, key=lambda key: len(found.arrays[key].shape))
    count = found.shape(largest)[0]
    labels = [key for key, stored in found.arrays.items() if stored.shape in ((count,), (count, 1)) and not stored.fault]
    named = "".join(f" --set data.labels_key={printable(key)}" for key in labels[:1])
    return f"Say which key holds the images: --set data.images_key={printable(largest)}{named}"


def _is_images(stored: Stored) -> bool:
    return not stored.fault and len(stored.shape) in (2, 3, 4) and stored.dtype.kind in "biuf" and min(stored.shape) > 0
