"""Read which class each picture is of from what lies beside the pictures: dataset.json, metadata tables, marks of samples."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ddpm_cli.core.io.files import UnreadableError, parse_json
from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.pictures.classes import ANOTHER_COLUMN
from ddpm_cli.data.pictures.decode import SUFFIXES
from ddpm_cli.data.pictures.settings import printable, shown
from ddpm_cli.data.placing.samples import sample_of
from ddpm_cli.errors import DataError

FILE_NAME = "file_name"
DATASET_JSON = "dataset.json"
TABLES = (DATASET_JSON, "metadata.csv", "metadata.jsonl")
"""Files beside pictures that say their classes: of EDM and StyleGAN, and of Hugging Face's imagefolder."""

CLASS_SUFFIX, JSON_SUFFIX = ".cls", ".json"
"""Of what holds the class of a sample of WebDataset."""

MOST_BYTES = {"table": 1 << 28, "mark": 1 << 16}
Kind = Literal["picture", "table", "mark", "other"]
Value = int | str


def kind_of(name: str, *, wants_json: bool = False) -> Kind:
    """Tell what a file in a folder or archive is by its name.

    Args:
        name: Of the file.
        wants_json: Whether a sample's .json file is one of its class, because a column was named.
    """
    dot = name.rfind(".")
    suffix = name[dot:].lower() if dot >= 0 else ""  # of a dot in a folder's name none that is known
    if suffix in SUFFIXES:
        return "picture"
    if name.rpartition("/")[2] in TABLES:
        return "table"
    return "mark" if suffix == CLASS_SUFFIX or (suffix == JSON_SUFFIX and wants_json) else "other"


def is_too_large(kind: Kind, name: str, size: int) -> bool:
    """Tell whether a mark holds more than a class, and is none.

    Raises:
        UnreadableError: If it is a table that is too large.
    """
    if kind == "table" and size > MOST_BYTES[kind]:
        raise UnreadableError(f"holds a table, {shown(name)}, of {size:,} bytes, more than {MOST_BYTES[kind]:,}")
    return kind == "mark" and size > MOST_BYTES[kind]


def text_of(content: bytes) -> str:
    """Decode the text of a table or mark, with or without a byte order mark; what is no text is told when it is wanted."""
    return content.decode("utf-8-sig", "surrogateescape")


def _read(texts: Mapping[str, str], name: str) -> str:
    """The text of a table or mark.

    Raises:
        UnreadableError: If it is none: what stood in for its letters could make one class of two.
    """
    text = texts[name]
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UnreadableError("is not UTF-8 text") from error
    return text


def folders_of(name: str) -> list[str]:
    """List the folders that a name lies in, each ending in a slash, the outermost first."""
    parts = name.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) + "/" for depth in range(len(parts))]


class Given(NamedTuple):
    """Hold the class of each picture.

    Attributes:
        values: Whole numbers or texts.
        where: What they come from, for people.
        notices: What the user must know about them.
    """

    values: list[Value]
    where: str
    notices: tuple[str, ...] = ()


class Wanted(NamedTuple):
    """Hold the pictures whose classes are wanted.

    Attributes:
        names: Of these pictures.
        every: Of all pictures, those that are left aside too.
        source: The collection, for messages.
    """

    names: Sequence[str]
    every: Collection[str]
    source: str


def tables_over(names: Sequence[str], tables: Mapping[str, str]) -> list[str]:
    """List the tables that may speak of some pictures: metadata in folders around any, the outermost dataset.json around all."""
    if not tables:
        return []
    around = {folder for name in {name[: name.rfind("/") + 1] for name in names} for folder in ("", *folders_of(name))}
    kept = sorted(table for table in tables if _folder(table) in around)
    whole = [table for table in kept if _is_dataset_json(table) and all(name.startswith(_folder(table)) for name in names)]
    return [table for table in kept if not _is_dataset_json(table) or table == min(whole, key=len, default="")]


def _folder(name: str) -> str:
    return name[: name.rfind("/") + 1]


def _is_dataset_json(table: str) -> bool:
    return table.rpartition("/")[2] == DATASET_JSON


def given_classes(wanted: Wanted, tables: Mapping[str, str], marks: Mapping[str, str], column: str | None) -> Given | None:
    """Read the classes that files beside the pictures give; None if none do, and folders may.

    A column that was named goes first, then dataset.json, then WebDataset's .cls files.

    Args:
        wanted: The pictures.
        tables: Text of the tables, by name.
        marks: Text of the samples' files of a class, by name.
        column: Of a metadata table or of the samples' .json files; None if the user named none.
    Raises:
        DataError: If they cannot be read, give vectors, or some pictures have no class.
    """
    source, over = wanted.source, tables_over(wanted.names, tables)
    metadata = [name for name in over if not _is_dataset_json(name)]
    if column is not None:
        if metadata:
            return _of_metadata(wanted, metadata, tables, column)
        if jsons := _of_suffix(wanted, marks, JSON_SUFFIX):
            classes = {key: _of_json(key, name, marks, column, source) for key, name in jsons.items()}
            return _of_samples(wanted, classes, JSON_SUFFIX)
        raise DataError(
            f"There is no metadata.csv, metadata.jsonl or .json of a sample in {source}, and so no column {printable(column)}.",
            "Leave out data.label_column, and folders are the classes.",
        )
    dataset_json = next(filter(_is_dataset_json, over), None)
    if dataset_json and (given := _of_dataset_json(wanted, dataset_json, tables)) is not None:
        return given
    if named := _of_suffix(wanted, marks, CLASS_SUFFIX):
        numbers = {key: _whole(name, marks, source) for key, name in named.items()}
        return _of_samples(wanted, numbers, CLASS_SUFFIX)
    return None


def marks_of_pictures(marks: Iterable[str], names: Collection[str]) -> list[str]:
    """List the marks of samples that hold one of these pictures: what else is called so, such as a class of LaTeX's, is none."""
    marks = list(marks)
    samples = {sample_of(name) for name in names} if marks else set()
    return [name for name in marks if sample_of(name) in samples]


def _of_suffix(wanted: Wanted, marks: Iterable[str], suffix: str) -> dict[str, str]:
    """Names of the files of a class, by their sample."""
    return {sample_of(name): name for name in marks_of_pictures(marks, wanted.every) if name.lower().endswith(suffix)}


def unread_columns(names: Sequence[str], tables: Mapping[str, str]) -> Iterator[str]:
    """Say which columns of metadata tables over some pictures may hold classes that were not asked for."""
    for name in tables_over(names, tables):
        if _is_dataset_json(name):
            continue
        try:
            row = next(_rows(name, tables), {})
        except UnreadableError:
            continue
        if columns := [printable(str(key)) for key in row if key != FILE_NAME]:
            yield (
                f"{shown(name)} has the columns {first_few(columns)}, which are not read; for classes: "
                f"--set data.label_column={columns[0]}"
            )


def _of_dataset_json(wanted: Wanted, table: str, tables: Mapping[str, str]) -> Given | None:
    """What it gives; None where it does not speak of labels, as it is another program's then."""
    source = wanted.source
    try:
        whole = parse_json(_read(tables, table))
        if isinstance(whole, dict) and "labels" not in whole:
            return None
        labels = whole["labels"] if isinstance(whole, dict) else whole
    except UnreadableError as error:
        raise DataError(f"{DATASET_JSON} in {source} {error}.", "Write it anew as EDM's dataset_tool.py does.") from error
    if labels is None:
        return _without_classes(wanted.names)
    if not isinstance(labels, list) or not all(
        isinstance(one, list) and len(one) == 2 and isinstance(one[0], str) for one in labels
    ):
        raise DataError(
            f'"labels" of {DATASET_JSON} in {source} is no list of pairs [name, class].',
            'Write {"labels": [["00000/img00000000.png", 3], ...]}, or "labels": null for none.',
        )
    by_name = {f"{_folder(table)}{name.lstrip('./')}": label for name, label in labels}
    if all(label is None for label in by_name.values()):
        return _without_classes(wanted.names)
    for name, label in by_name.items():
        if isinstance(label, list):
            raise DataError(
                f"{DATASET_JSON} in {source} gives {shown(name)} a vector of {len(label):,} numbers, not one class.",
                "A model of classes needs one whole number for each picture; several at once, or real numbers, are not trained on.",
            )
    return _complete(wanted, wanted.names, by_name, DATASET_JSON)


def _without_classes(names: Sequence[str]) -> Given:
    """What a file says that gives no picture a class: folders, which the tools number, are none then."""
    return Given([0] * len(names), DATASET_JSON)


def _complete(wanted: Wanted, keys: Sequence[str], by_key: Mapping[str, Any], where: str, *, by_sample: bool = False) -> Given:
    """The class of each picture, by its key in a table.

    Raises:
        DataError: If some have none, or one that is neither a whole number nor a text.
    """
    names, every, source = wanted
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
    known = {sample_of(name) for name in every} if by_sample else set(every)
    absent = [shown(key) for key in by_key if key not in known]
    are = "is" if len(absent) == 1 else "are"
    notice = f"{where} in {source} names {counted(len(absent))} that {are} not there: {first_few(absent)}."
    return Given(values, where, (notice,) if absent else ())


def _of_samples(wanted: Wanted, classes: Mapping[str, Any], suffix: str) -> Given:
    return _complete(wanted, [sample_of(name) for name in wanted.names], classes, f"the {suffix} files", by_sample=True)


def _of_json(key: str, name: str, marks: Mapping[str, str], column: str, source: str) -> Any:
    try:
        found = parse_json(_read(marks, name))
    except UnreadableError as error:
        raise DataError(f"{shown(key)}{JSON_SUFFIX} in {source} {error}.", "Write it anew.") from error
    if not isinstance(found, dict) or column not in found:
        keys = ", ".join(printable(str(name)) for name in found) if isinstance(found, dict) else "no keys"
        raise DataError(
            f'{shown(key)}{JSON_SUFFIX} in {source} has no key "{printable(column)}", only {keys[:200]}.', "Name one of these."
        )
    return found[column]


def _whole(name: str, marks: Mapping[str, str], source: str) -> int:
    remedy = "WebDataset writes a whole number from 0 on there."
    try:
        text = _read(marks, name).strip()
    except UnreadableError as error:
        raise DataError(f"{shown(name)} in {source} {error}.", remedy) from error
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise DataError(f"{shown(name)} in {source} holds {printable(text)[:50]!r}, which is no class.", remedy)


def _of_metadata(wanted: Wanted, metadata: Sequence[str], tables: Mapping[str, str], column: str) -> Given:
    source, by_name = wanted.source, dict[str, Any]()
    for table in metadata:
        try:
            for row in _rows(table, tables):
                _require_columns(row, table, column, source)
                by_name[f"{_folder(table)}{row[FILE_NAME]}"] = row[column]
        except UnreadableError as error:
            raise DataError(f"{shown(table)} in {source} {error}.", "Write it anew.") from error
    texts = [value for value in by_name.values() if value is not None]
    if all(isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10 for value in texts):
        by_name = {name: value and int(value) for name, value in by_name.items()}  # as CSV has no numbers
    where = f"the column {printable(column)} of {first_few([shown(table) for table in metadata])}"
    return _complete(wanted, wanted.names, by_name, where)


def _require_columns(row: Mapping[str, Any], table: str, column: str, source: str) -> None:
    if missing := [name for name in (FILE_NAME, column) if name not in row]:
        columns = first_few([printable(str(key)) for key in row])
        raise DataError(
            f"{shown(table)} in {source} has no column {printable(missing[0])}, only {columns}.",
            f"It needs {FILE_NAME} and the column of the classes: --set data.label_column=COLUMN",
        )


def _rows(table: str, tables: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The rows of a metadata table.

    Raises:
        UnreadableError: If it is damaged.
    """
    text = _read(tables, table)
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
