"""Read tables of pixels: `.csv` and `.csv.gz` with a row for each image, as of Kaggle's MNIST and Sign Language MNIST."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.files import printable
from ddpm_cli.core.wording import first_few
from ddpm_cli.data.sources.containers.found import MOST_PACKED, SMALL_BYTES, Found, guarded
from ddpm_cli.data.sources.formats.pixels import as_images, makes_image
from ddpm_cli.data.sources.formats.reader import WITHOUT_LABELS, ArrayOptions, Reader, array_set, part, whole
from ddpm_cli.errors import DataError

if TYPE_CHECKING:
    from ddpm_cli.data.sources.array_sets import AnyLayout, ArrayPart, ArraySet

LABELS = ("label", "labels", "class", "target", "y")
LONGEST_LINE = 1 << 24
TRAIN, TEST = "_train.csv", "_test.csv"
_FOUND = re.compile(r"the dtype passed requires (\d+) columns but (\d+) were found")


class _Columns(NamedTuple):
    """Say which columns are what."""

    names: tuple[str, ...]
    pixels: tuple[int, ...]
    label: int | None
    delimiter: str
    has_header: bool


class _Lines:
    """Hand out the lines of a file and count them; refuse those that no image has, and far more than a file can pack."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self._file, self._most, self.count, self._size = file, max(SMALL_BYTES, MOST_PACKED * path.stat().st_size), 0, 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(LONGEST_LINE):
            self.count += 1
            self._size += len(line)
            if len(line) == LONGEST_LINE or self._size > self._most:
                raise ValueError(f"line {self.count:,} is longer than an image, or the file would unpack to far more than it packs")
            yield line


def _recognises(found: Found) -> bool:
    return found.path.name.lower().endswith((".csv", ".csv.gz"))


def _read(found: Found, options: ArrayOptions) -> ArraySet:
    train, layout, said = _part(found.path, options)
    beside = found.path.with_name(found.path.name.replace(TRAIN, TEST))
    test = None
    if beside != found.path and beside.is_file():
        test, _, _ = _part(beside, options)
        if (test.labels is None) != (train.labels is None):
            test = None
    said += f", {beside.name} held out" if test else ""
    return array_set(found.path, f"a table of pixels: {said}", train, test, layout=layout)


def _part(path: Path, options: ArrayOptions) -> tuple[ArrayPart, AnyLayout, str]:
    columns = guarded(path, lambda: _columns(path, options))
    pixels, labels = guarded(path, lambda: _values(path, columns))
    images = as_images(pixels, f"{path}: the columns of pixels", layout=options.layout, size=options.flat_size)
    which = "no column of labels" if labels is None else f"labels in the column {printable(columns.names[columns.label or 0])}"
    labels = None if labels is None or not options.with_labels else whole(labels)
    return part(images.array, labels, "pixels", which), images.layout, f"{images.said}, {which}"


def _open(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace")
    return path.open(encoding="utf-8-sig", errors="replace")


def _columns(path: Path, options: ArrayOptions) -> _Columns:
    with _open(path) as file:
        first = next((line for line in _Lines(file, path) if line.strip()), "")
    if not first:
        raise ValueError("it is empty")
    delimiter = max(",;\t", key=first.count)
    fields = [field.strip().strip("\"'") for field in first.strip("\r\n").split(delimiter)]
    has_header = not all(_is_number(field) for field in fields)
    names = tuple(fields) if has_header else tuple(str(number) for number in range(len(fields)))
    label = _label_column(names, has_header, options, path)
    rest = tuple(number for number in range(len(names)) if number != label)
    numbered = tuple(number for number in rest if re.search(r"\d$", names[number]))
    for pixels in (rest, numbered):
        if makes_image(len(pixels), options.flat_size):
            return _Columns(names, pixels, label, delimiter, has_header)
    shown = first_few([printable(name) for name in names])
    size = "a square" if options.flat_size is None else f"{options.flat_size[0]}x{options.flat_size[1]}"
    raise DataError(
        f"{path} is recognised as a table of pixels, but {len(rest):,} columns beside the labels make no image of {size}: {shown}.",
        "Say height and width with --set data.flat_size=HxW, and the column of labels with --set data.labels_key=NAME.",
    )


def _label_column(names: tuple[str, ...], has_header: bool, options: ArrayOptions, path: Path) -> int | None:
    """Which column holds labels: the one that the user or the header names, else the first if the others make an image."""
    if options.labels_key is not None and options.with_labels:
        if options.labels_key not in names:
            shown = first_few([printable(name) for name in names])
            raise DataError(
                f"{path} has no column {printable(options.labels_key)}, only {shown}.", f"Name one, or {WITHOUT_LABELS}"
            )
        return names.index(options.labels_key)
    if has_header:
        return next((number for number, name in enumerate(names) if name.lower() in LABELS), None)
    is_image = makes_image(len(names), options.flat_size)
    return 0 if not is_image and makes_image(len(names) - 1, options.flat_size) else None


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _values(path: Path, columns: _Columns) -> tuple[NDArray[np.generic], NDArray[np.generic] | None]:
    """The pixels, uint8 where all of them are, else float32, and the labels, float64, whatever the pixels are."""
    try:
        return _parsed(path, columns, np.uint8)
    except ValueError:
        return _parsed(path, columns, np.float32)


def _parsed(path: Path, columns: _Columns, kind: type) -> tuple[NDArray[np.generic], NDArray[np.generic] | None]:
    wanted = sorted(columns.pixels if columns.label is None else (*columns.pixels, columns.label))
    all_of_them = len(wanted) == len(columns.names)  # then NumPy refuses rows that are longer than the first
    place = None if columns.label is None else wanted.index(columns.label)
    with _open(path) as file:
        lines = _Lines(file, path)
        try:
            values = np.loadtxt(
                iter(lines),
                _row(len(columns.pixels), place, kind),
                comments=None,
                delimiter=columns.delimiter,
                quotechar='"',
                skiprows=int(columns.has_header),
                usecols=None if all_of_them else wanted,
                ndmin=1,
            )
        except ValueError as error:  # of its row NumPy counts some faults from 0 and others from 1
            reason = _FOUND.sub(r"it has \2 columns where \1 are wanted", str(error).partition(" at row ")[0])
            raise ValueError(f"line {lines.count:,}: {reason} (of {len(columns.names):,} columns)") from error
    if not len(values):
        raise ValueError("it holds no rows")
    if place is None:
        return values["before"], None
    return np.concatenate([values["before"], values["after"]], axis=1), values["label"]


def _row(pixels: int, label: int | None, kind: type) -> np.dtype[np.void]:
    """A row of pixels of a kind with its label at a place; were all of one kind, a label above 255 would widen the pixels."""
    if label is None:
        return np.dtype([("before", kind, (pixels,))])
    return np.dtype([("before", kind, (label,)), ("label", np.float64), ("after", kind, (pixels - label,))])


PIXEL_TABLE = Reader(
    title="tables of pixels",
    about="Read .csv and .csv.gz with a row of pixels for each image, with or without header and labels, such as Kaggle's MNIST.",
    recognises=_recognises,
    read=_read,
    options=frozenset({"flat_size"}),
)
