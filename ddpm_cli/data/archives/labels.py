"""Read which class each picture is of from what lies beside the pictures: dataset.json, metadata tables, marks of samples."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ddpm_cli.core.io.files import UnreadableError, parse_json
from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.archives.contents import CLASS_SUFFIX, JSON_SUFFIX, sample_of
from ddpm_cli.data.pictures.classes import ANOTHER_COLUMN
from ddpm_cli.data.pictures.settings import printable, shown
from ddpm_cli.errors import DataError

FILE_NAME = "file_name"
DATASET_JSON = "dataset.json"
Value = int | str


class Given(NamedTuple):
    """Hold the class of each picture.

    Attributes:
        values: Whole numbers or texts.
        where: What they come from, for people.
        in_folders: Whether folders still may be splits; else they mean nothing.
        notices: What the user must know about them.
    """

    values: list[Value]
    where: str
    in_folders: bool
    notices: tuple[str, ...] = ()


def given_classes(
    names: Sequence[str], tables: Mapping[str, str], marks: Mapping[str, str], column: str | None, source: str
) -> Given | None:
    """Read the classes that files beside the pictures give; None if none do, and folders may.

    A column that was named goes first, then dataset.json, then WebDataset's .cls files.

    Args:
        names: Of the pictures.
        tables: Text of the tables, by name.
        marks: Text of the samples' files of a class, by name.
        column: Of a metadata table or of the samples' .json files; None if the user named none.
        source: The collection, for messages.
    Raises:
        DataError: If they cannot be read, give vectors, or some pictures have no class.
    """
    metadata = {name: text for name, text in tables.items() if not name.endswith(DATASET_JSON)}
    if column is not None:
        if metadata:
            return _of_metadata(names, metadata, column, source)
        jsons = {sample_of(name): text for name, text in marks.items() if name.lower().endswith(JSON_SUFFIX)}
        if jsons:
            return _of_samples(
                names, {key: _of_json(key, text, column, source) for key, text in jsons.items()}, JSON_SUFFIX, source
            )
        raise DataError(
            f"There is no metadata.csv, metadata.jsonl or .json of a sample in {source}, and so no column {printable(column)}.",
            "Leave out data.label_column, and folders are the classes.",
        )
    if (text := tables.get(DATASET_JSON)) is not None:
        return _of_dataset_json(names, text, source)
    classes = {sample_of(name): text for name, text in marks.items() if name.lower().endswith(CLASS_SUFFIX)}
    if classes:
        numbers = {key: _whole(text.strip(), f"{shown(key)}{CLASS_SUFFIX}", source) for key, text in classes.items()}
        return _of_samples(names, numbers, CLASS_SUFFIX, source)
    return None


def unread_columns(tables: Mapping[str, str]) -> Iterator[str]:
    """Say which columns of metadata tables may hold classes that were not asked for."""
    for name, text in sorted(tables.items()):
        if name.endswith(DATASET_JSON):
            continue
        try:
            row = next(_rows(name, text), {})
        except UnreadableError:
            continue
        if columns := [printable(str(key)) for key in row if key != FILE_NAME]:
            yield (
                f"{shown(name)} has the columns {first_few(columns)}, which are not read; for classes: "
                f"--set data.label_column={columns[0]}"
            )


def _of_dataset_json(names: Sequence[str], text: str, source: str) -> Given:
    try:
        whole = parse_json(text)
        labels = whole.get("labels") if isinstance(whole, dict) else whole
    except UnreadableError as error:
        raise DataError(f"{DATASET_JSON} in {source} {error}.", "Write it anew as EDM's dataset_tool.py does.") from error
    if labels is None:
        return _without_classes(names)
    if not isinstance(labels, list) or not all(
        isinstance(one, list) and len(one) == 2 and isinstance(one[0], str) for one in labels
    ):
        raise DataError(
            f'"labels" of {DATASET_JSON} in {source} is no list of pairs [name, class].',
            'Write {"labels": [["00000/img00000000.png", 3], ...]}, or "labels": null for none.',
        )
    by_name = {name.lstrip("./"): label for name, label in labels}
    if all(label is None for label in by_name.values()):
        return _without_classes(names)
    for name, label in by_name.items():
        if isinstance(label, list):
            raise DataError(
                f"{DATASET_JSON} in {source} gives {shown(name)} a vector of {len(label):,} numbers, not one class.",
                "A model of classes needs one whole number for each picture; several at once, or real numbers, are not trained on.",
            )
    return _complete(names, names, by_name, DATASET_JSON, source, in_folders=False)


def _without_classes(names: Sequence[str]) -> Given:
    """What a file says that gives no picture a class: folders, which the tools number, are none then."""
    return Given([0] * len(names), DATASET_JSON, in_folders=False)


def _complete(
    names: Sequence[str], keys: Sequence[str], by_key: Mapping[str, Any], where: str, source: str, *, in_folders: bool
) -> Given:
    """The class of each picture, by its key in a table.

    Raises:
        DataError: If some have none, or one that is neither a whole number nor a text.
    """
    if lacking := [shown(name) for name, key in zip(names, keys, strict=True) if by_key.get(key) is None]:
        raise DataError(
            f"{counted(len(lacking))} of {len(names):,} in {source} {'has' if len(lacking) == 1 else 'have'} no class in {where}: "
            f"{first_few(lacking)}.",
            "Give each picture a class there, or take those without one out.",
        )
    values = [by_key[key] for key in keys]
    for name, value in zip(names, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise DataError(
                f"{where} in {source} gives {shown(name)} {printable(repr(value))[:50]}, which is no class.", ANOTHER_COLUMN
            )
    known = set(keys)
    absent = [shown(key) for key in by_key if key not in known]
    are = "is" if len(absent) == 1 else "are"
    notice = f"{where} in {source} names {counted(len(absent))} that {are} not there: {first_few(absent)}."
    return Given(values, where, in_folders, (notice,) if absent else ())


def _of_samples(names: Sequence[str], by_sample: Mapping[str, Any], suffix: str, source: str) -> Given:
    return _complete(names, [sample_of(name) for name in names], by_sample, f"the {suffix} files", source, in_folders=False)


def _of_json(key: str, text: str, column: str, source: str) -> Any:
    try:
        found = parse_json(text)
    except UnreadableError as error:
        raise DataError(f"{shown(key)}{JSON_SUFFIX} in {source} {error}.", "Write it anew.") from error
    if not isinstance(found, dict) or column not in found:
        keys = ", ".join(printable(str(name)) for name in found) if isinstance(found, dict) else "no keys"
        raise DataError(
            f'{shown(key)}{JSON_SUFFIX} in {source} has no key "{printable(column)}", only {keys[:200]}.', "Name one of these."
        )
    return found[column]


def _whole(text: str, what: str, source: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise DataError(
        f"{what} in {source} holds {printable(text)[:50]!r}, which is no class.",
        "WebDataset writes a whole number from 0 on there.",
    )


def _of_metadata(names: Sequence[str], tables: Mapping[str, str], column: str, source: str) -> Given:
    by_name: dict[str, Any] = {}
    for table, text in sorted(tables.items()):
        folder = table[: table.rfind("/") + 1]
        try:
            for row in _rows(table, text):
                _require_columns(row, table, column, source)
                by_name[f"{folder}{row[FILE_NAME]}"] = row[column]
        except UnreadableError as error:
            raise DataError(f"{shown(table)} in {source} {error}.", "Write it anew.") from error
    texts = [value for value in by_name.values() if value is not None]
    if all(isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10 for value in texts):
        by_name = {name: value and int(value) for name, value in by_name.items()}  # as CSV has no numbers
    where = f"the column {printable(column)} of {first_few([shown(table) for table in sorted(tables)])}"
    return _complete(names, names, by_name, where, source, in_folders=True)


def _require_columns(row: Mapping[str, Any], table: str, column: str, source: str) -> None:
    if missing := [name for name in (FILE_NAME, column) if name not in row]:
        columns = first_few([printable(str(key)) for key in row])
        raise DataError(
            f"{shown(table)} in {source} has no column {printable(missing[0])}, only {columns}.",
            f"It needs {FILE_NAME} and the column of the classes: --set data.label_column=COLUMN",
        )


def _rows(table: str, text: str) -> Iterator[dict[str, Any]]:
    """The rows of a metadata table.

    Raises:
        UnreadableError: If it is damaged.
    """
    if table.endswith(".csv"):
        try:
            for row in csv.DictReader(io.StringIO(text, newline="")):
                yield {key: value or None for key, value in row.items() if key is not None}
        except csv.Error as error:
            raise UnreadableError(f"is no table of comma-separated values: {error}") from error
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UnreadableError(f"is damaged in line {number:,}") from error
            if not isinstance(row, dict):
                raise UnreadableError(f"has no object in line {number:,}")
            yield row
