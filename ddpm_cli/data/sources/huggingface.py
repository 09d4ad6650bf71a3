"""Load data sets of Hugging Face: a name on the Hub, a folder in a layout that the `datasets` library reads, or one it saved."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.extras import require_packages
from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.core.io.paths import is_text, user_path
from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.cache.loading import load_pictures
from ddpm_cli.data.images import Dataset
from ddpm_cli.data.pictures.classes import ANOTHER_COLUMN, USUAL_NAMES, numbered
from ddpm_cli.data.pictures.settings import Pictures, PictureSettings, printable
from ddpm_cli.errors import DataError
from ddpm_cli.results.events import Listener, Notice, ignore

UNLABELLED = -1
"""What data sets of the Hub hold where a class is not known, as in the test split of a contest."""
CLASS_TYPES = ("int", "uint", "bool", "string", "large_string")


@dataclass(frozen=True)
class HubQuery:
    """Say which images of which data set.

    Attributes:
        name: On the Hub, or the path of a folder.
        subset: The Hub's "configuration"; None for its only or default one.
        split: To train on.
        held_out_split: Held out; None holds out a share of `split`.
        image_column: None for the only column of images.
        label_column: Of whole numbers or texts; None for the only one of the library's kind ClassLabel, if there is one.
    """

    name: str
    subset: str | None = None
    split: str = "train"
    held_out_split: str | None = None
    image_column: str | None = None
    label_column: str | None = None


def load_huggingface(query: HubQuery, settings: PictureSettings, on_event: Listener = ignore) -> Dataset:
    """Load images through the `datasets` library, decoded by us, once, into the cache. No code of a data set is run.

    Args:
        query: What to load.
        settings: What becomes of the pictures.
        on_event: Told before a download, and of the progress.
    Raises:
        RequestError: If the library is missing.
        DataError: If it finds no such data set or split, or there is no one column of images.
    """
    require_packages("The kind huggingface", "huggingface", "datasets")
    import datasets

    splits = [query.split] if query.held_out_split is None else [query.split, query.held_out_split]
    with _quiet(datasets):
        parts = [_load_split(datasets, query, split, on_event) for split in splits]
        image_column = _column(query.image_column, parts[0], datasets.Image, "image_column", query.name)
        if image_column is None:
            raise DataError(f"{query.name} has no column of images: {_listed(parts[0])}.", "Name another data set.")
        label_column = _column(query.label_column, parts[0], datasets.ClassLabel, "label_column", query.name)
        encoded = [part.select_columns([image_column]).cast_column(image_column, datasets.Image(decode=False)) for part in parts]
        labels, class_names = _read_classes(parts, label_column, query, splits)
    notices = tuple(_notices(parts[0], label_column, class_names))
    pictures = _pictures(query, splits, encoded, image_column, labels, class_names)
    dataset = load_pictures(replace(pictures, notices=notices), settings, on_event)
    return replace(dataset, label_columns=tuple(_unread_labels(parts[0])) if label_column is None else ())


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Keep the library's progress bars off the console, which belongs to the caller."""
    hidden = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not hidden:
            datasets.enable_progress_bars()


def _load_split(datasets: Any, query: HubQuery, split: str, on_event: Listener) -> Any:
    local = user_path(query.name, "data.name", DataError)
    if local.exists() and not is_text(local):
        raise DataError(
            f"The datasets library cannot read {local}, whose name is no UTF-8.",
            "Rename the folder, or train on the pictures in it: --data DIR",
        )
    try:
        if (local / "dataset_dict.json").is_file() or (local / "state.json").is_file():
            saved = datasets.load_from_disk(str(local))
            return saved[split] if isinstance(saved, datasets.DatasetDict) else saved
        if not local.is_dir():
            on_event(Notice(f"Loading {query.name} ({split}) through the datasets library, which may download it."))
        return datasets.load_dataset(str(local) if local.is_dir() else query.name, query.subset, split=split)
    except Exception as error:  # the library and the Hub fail in ways without number
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{query.name}, split {split}, cannot be loaded: {type(error).__name__}: {reason}.",
            "Check data.name, data.subset and data.split, and the network.",
        ) from error


def _column(named: str | None, part: Any, feature: type, key: str, name: str) -> str | None:
    """The column that was named, or the only one whose values are of that kind; None if there is none."""
    if named is not None:
        if named not in part.features:
            raise DataError(f"{name} has no column {named!r}: {_listed(part)}.", f"Name another one with --set data.{key}=COLUMN.")
        return named
    found = [column for column, kind in part.features.items() if isinstance(kind, feature)]
    if len(found) > 1:
        raise DataError(
            f"{name} has several columns for data.{key}: {', '.join(found)}.", f"Name one with --set data.{key}=COLUMN."
        )
    return found[0] if found else None


def _listed(part: Any) -> str:
    return ", ".join(f"{column} ({type(kind).__name__})" for column, kind in part.features.items())


def _read_classes(
    parts: list[Any], column: str | None, query: HubQuery, splits: list[str]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    if column is None:
        return np.zeros(sum(map(len, parts)), np.int64), ()
    found = [value for part, split in zip(parts, splits, strict=True) for value in _classes_of_rows(part, column, query, split)]
    return numbered(found, _names(parts[0], column), f"The column {column} of {query.name}")


def _names(part: Any, column: str | None) -> Sequence[str]:
    """The names that a column of classes gives to their numbers, if it does."""
    return () if column is None else getattr(part.features[column], "names", None) or ()


def _classes_of_rows(part: Any, column: str, query: HubQuery, split: str) -> list[int | str]:
    """The class of each row as it is stored, whole numbers or texts.

    Raises:
        DataError: If a value is no class, with the first one that is not.
    """
    unknown = (None, UNLABELLED) if _names(part, column) else (None,)
    values = part[column][:]
    for row, value in enumerate(values):
        if value in unknown or not (isinstance(value, int | str) or (isinstance(value, float) and value.is_integer())):
            what = "has no class" if value in unknown else f"holds {_shown(value)}, which is no class,"
            held_out = " Or leave out data.held_out_split: a share of data.split is held out then."
            raise DataError(
                f"The column {column} of {query.name}, split {split}, {what} for image {row:,} of {len(values):,}.",
                f"{ANOTHER_COLUMN}{held_out if split == query.held_out_split else ''}",
            )
    return [int(value) if isinstance(value, float) else value for value in values]


def _shown(value: Any) -> str:
    return f"a {type(value).__name__}" if isinstance(value, list | dict) else repr(value)


def _unread_labels(part: Any) -> list[str]:
    """Columns of whole numbers or texts, those with a usual name first."""
    columns = [column for column, kind in part.features.items() if str(getattr(kind, "dtype", "")).startswith(CLASS_TYPES)]
    return sorted(columns, key=lambda column: column.lower() not in USUAL_NAMES)


def _notices(part: Any, column: str | None, class_names: tuple[str, ...]) -> Iterator[str]:
    names = [printable(name) for name in _names(part, column)]
    if class_names and (unused := [name for name in names if name not in class_names]):
        yield f"No picture is of {counted(len(unused), 'class', 'classes')} that the data set names: {first_few(unused)}."
    if column is None and (likely := [name for name in part.features if name.lower() in USUAL_NAMES]):
        yield f"The column {likely[0]} is no ClassLabel and is not read; for its classes: --set data.label_column={likely[0]}"


def _pictures(
    query: HubQuery,
    splits: list[str],
    parts: list[Any],
    image_column: str,
    labels: NDArray[np.int64],
    class_names: tuple[str, ...],
) -> Pictures:
    counts = [len(part) for part in parts]
    facts = [str(fact) for part in parts for fact in (part._fingerprint, image_column, len(part))]

    def read(number: int) -> bytes:
        first = number < counts[0]
        return _encoded(parts[0 if first else 1][number if first else number - counts[0]][image_column])

    return Pictures(
        name=Path(query.name).name,
        source=f"{query.name} ({' and '.join(splits)}) through the datasets library",
        names=[f"{split}[{row}]" for split, count in zip(splits, counts, strict=True) for row in range(count)],
        labels=labels,
        class_names=class_names,
        held_out=None if len(parts) == 1 else np.arange(sum(counts)) >= counts[0],
        fingerprint=hashlib.sha256("\n".join([*facts, *class_names]).encode() + labels.tobytes()).hexdigest(),
        read=read,
    )


def _encoded(value: dict[str, Any] | None) -> bytes:
    if value is None:
        raise UnreadableError("is missing")
    content: bytes | None = value["bytes"]
    return Path(value["path"]).read_bytes() if content is None else content
