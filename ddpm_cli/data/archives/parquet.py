"""List and read pictures in parquet files, as Hugging Face's datasets library writes them or with a column of bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.extras import require_packages
from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.core.io.paths import shell_word
from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.archives.contents import MOST_PICTURE_BYTES, fingerprint, plain_name, require_modest, stem
from ddpm_cli.data.pictures.classes import ANOTHER_COLUMN, USUAL_NAMES, numbered
from ddpm_cli.data.pictures.settings import Pictures, printable
from ddpm_cli.data.placing.place import Listing, in_order_of_a_walk, place
from ddpm_cli.data.placing.splits import Splits
from ddpm_cli.errors import DataError

BATCH_ROWS = 16
BUFFER_BYTES = 1 << 20


class Table(NamedTuple):
    """Hold what a parquet file says of its pictures.

    Attributes:
        column: Of the pictures.
        inside: Name of the bytes within it; empty if the column itself holds them.
        paths: Name of each picture; None where it has none.
        label_column: Of the classes; empty if there is none.
        values: Class of each picture: whole numbers or texts, None where one has none; empty without such a column.
        names: Name of each class, where the file tells.
        others: Other columns of whole numbers or texts.
    """

    column: str
    inside: str
    paths: list[str | None]
    label_column: str
    values: list[Any]
    names: list[str]
    others: list[str]


def list_parquet(path: Path, label_column: str | None, image_column: str | None = None) -> Table:
    """List the pictures of a parquet file; their bytes are not read.

    Args:
        path: The file.
        label_column: Of the classes; None takes the only one that the file itself calls classes, or one with a usual name.
        image_column: Of the pictures; None takes the only one.
    Raises:
        UnreadableError: If it is damaged or cut off, has no column of pictures, or not that of the classes.
        RequestError: If pyarrow is missing.
    """
    with opened(path) as file:
        schema = file.schema_arrow
        size = path.stat().st_size
        meta = file.metadata
        unpacked = sum(
            meta.row_group(group).column(column).total_uncompressed_size
            for group in range(meta.num_row_groups)
            for column in range(meta.num_columns)
        )
        require_modest(unpacked, size)
        column, inside = _picture_column(schema, image_column)
        features = _features(schema.metadata)
        labels = _label_column(schema, features, label_column, column)
        wanted = [*([labels] if labels else []), *([f"{column}.path"] if inside and _has_path(schema, column) else [])]
        read = file.read(columns=wanted).to_pydict() if wanted else {}
        count = meta.num_rows
        paths = [value and value.get("path") for value in read[column]] if column in read else [None] * count
        names = features.get(labels, {}).get("names") if labels else None
        others = [field.name for field in schema if field.name != column and _may_be_labels(field.type)]
    named = [str(name) for name in names] if isinstance(names, list) else []
    safe = [path if isinstance(path, str) else None for path in paths]
    return Table(column, inside, safe, labels, read.get(labels, []) if labels else [], named, others)


class opened:  # noqa: N801 - a context, as contextlib's are
    """Open a parquet file; whatever it lacks, the error says so.

    Raises:
        UnreadableError: In the block too.
        RequestError: If pyarrow is missing.
    """

    def __init__(self, path: Path) -> None:
        require_packages(f"The parquet file {path.name}", "parquet", "pyarrow")
        self._path = path

    def __enter__(self) -> Any:
        import pyarrow.parquet

        try:
            self._file = pyarrow.parquet.ParquetFile(self._path, buffer_size=BUFFER_BYTES, pre_buffer=False)
        except Exception as error:
            raise _unreadable(error) from error
        return self._file

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._file.close()
        import pyarrow

        if isinstance(error, pyarrow.ArrowException | OSError | UnicodeDecodeError) and not isinstance(error, UnreadableError):
            raise _unreadable(error) from error


def _unreadable(error: BaseException) -> UnreadableError:
    reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
    return UnreadableError(f"is damaged or cut off, or no parquet file: {reason}")


def _picture_column(schema: Any, named: str | None) -> tuple[str, str]:
    """The column of pictures, and what holds their bytes in it."""
    import pyarrow.types as types

    found = []
    for field in schema:
        if types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            found.append((field.name, "bytes"))
        elif types.is_binary(field.type) or types.is_large_binary(field.type):
            found.append((field.name, ""))
    if not found:
        raise UnreadableError(f"has no column of pictures, only {', '.join(f'{field.name} ({field.type})' for field in schema)}")
    columns = ", ".join(printable(name) for name, _ in found)
    if named is not None:
        if named not in dict(found):
            raise UnreadableError(f'has no column of pictures "{printable(named)}", only {columns}')
        return named, dict(found)[named]
    if len(found) > 1:
        structs = [one for one in found if one[1]]
        if len(structs) != 1:
            raise UnreadableError(
                f"has several columns that may hold pictures: {columns}; name one: --set data.image_column=COLUMN"
            )
        return structs[0]
    return found[0]


def _has_path(schema: Any, column: str) -> bool:
    return bool(schema.field(column).type.get_field_index("path") >= 0)


def _features(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """What the datasets library noted of each column; nothing if another program wrote the file."""
    try:
        noted = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        features = noted["info"]["features"]
        return {str(name): about for name, about in features.items() if isinstance(about, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _label_column(schema: Any, features: dict[str, Any], named: str | None, pictures: str) -> str:
    columns = [field.name for field in schema if field.name != pictures]
    if named is not None:
        if named not in columns:
            raise UnreadableError(f'has no column "{named}", only {", ".join(columns) or "that of the pictures"}')
        return named
    classes: list[str] = [name for name in columns if features.get(name, {}).get("_type") == "ClassLabel"]
    if len(classes) > 1:
        raise UnreadableError(f"has several columns of classes: {', '.join(classes)}; name one with --set data.label_column=COLUMN")
    if classes:
        return classes[0]
    usual: list[str] = [field.name for field in schema if field.name.lower() in USUAL_NAMES and _may_be_labels(field.type)]
    return usual[0] if len(usual) == 1 else ""


def _may_be_labels(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind))


def names_of(table: Table, labels: Sequence[str]) -> list[str]:
    """Name the pictures as the files of a folder would be: their paths below the folders of their classes, else their rows.

    Args:
        table: What the file says.
        labels: Name of each picture's class; empty where there are none.
    """
    names = []
    for row, path in enumerate(table.paths):
        try:
            name = plain_name(path) if path else None
        except UnreadableError:
            name = plain_name(path.rpartition("/")[2]) if path and path.rpartition("/")[2] not in ("", "..") else None
        name = name or f"{row:08}"
        names.append(f"{labels[row]}/{name}" if labels and "/" not in name else name)
    return names if len(set(names)) == len(names) else [f"{row:08}" for row in range(len(table.paths))]


def open_parquet(path: Path, splits: Splits, label_column: str | None, image_column: str | None = None) -> Pictures:
    """Find the pictures in a parquet file.

    Args:
        path: The file.
        splits: How folders in the names of pictures are told from classes, where no column holds these.
        label_column: As for `list_parquet`.
        image_column: Likewise.
    Raises:
        DataError: If it is damaged, has no pictures, or some have no class.
        RequestError: If pyarrow is missing.
    """
    source, remedy = f"the parquet file {path}", "Copy or download it again, or name its columns."
    try:
        table = list_parquet(path, label_column, image_column)
    except UnreadableError as error:
        raise DataError(f"The parquet file {path} {error}.", remedy) from error
    except OSError as error:
        raise DataError(f"The parquet file {path} cannot be read: {error.strerror or error}.", "Check the disk.") from error
    if not table.paths:
        raise DataError(f"There are no pictures in {source}: it has no rows.", "Name another one.")
    labels, class_names = _classes(table, source)
    names = names_of(table, [class_names[label] for label in labels.tolist()] if class_names else [])
    order = in_order_of_a_walk(names)
    listing = Listing([names[row] for row in order], classes=(labels[order], class_names) if table.label_column else None)
    # Folders that were made of classes are no splits.
    has_folders = any("/" in path for path in table.paths if path)
    found = place(path, listing, source, splits if has_folders else "none", archive=True)
    numbers = np.full(len(order), -1, np.int64)
    numbers[np.array(order, np.int64)[found.used]] = np.arange(len(found.used))
    others = [f"--set data.label_column={printable(name)}" for name in table.others if not table.label_column]
    notices = [f"The columns {first_few(table.others)} of {source} are not read; for classes: {others[0]}"] if others else []
    stream = partial(_in_order, path, table, numbers.tolist())

    def of_now() -> str:
        return fingerprint([path], splits, label_column, image_column)

    return Pictures(
        name=stem(path),
        source=source,
        names=[listing.names[number] for number in found.used],
        labels=found.labels,
        class_names=found.class_names,
        held_out=found.held_out,
        fingerprint=of_now(),
        read=lambda number: next(content for row, content in stream() if row == number),
        check=f"ddpm data check {shell_word(path)}",
        fingerprint_now=of_now,
        notices=(*found.notices, *notices),
        layout=found.layout,
        in_order=stream,
    )


def _classes(table: Table, source: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The number of each picture's class, in the order of the rows, and the names of all."""
    values = [int(value) if isinstance(value, float) and value.is_integer() else value for value in table.values]
    if not table.label_column:
        return np.zeros(len(table.paths), np.int64), ()
    lacking = [row for row, value in enumerate(values) if not isinstance(value, int | str) or (value == -1 and table.names)]
    if lacking:
        raise DataError(
            f"{counted(len(lacking))} of {len(values):,} in {source} {'has' if len(lacking) == 1 else 'have'} no class in "
            f"the column {printable(table.label_column)}: rows {first_few([f'{row:,}' for row in lacking])}.",
            ANOTHER_COLUMN,
        )
    return numbered(values, table.names, f"The column {printable(table.label_column)} of {source}")


def _in_order(path: Path, table: Table, numbers: list[int]) -> Iterator[tuple[int, bytes]]:
    try:
        yield from stream_parquet(path, table.column, table.inside, numbers)
    except UnreadableError as error:
        raise DataError(f"The parquet file {path} {error}.", "Copy or download it again.") from error


def stream_parquet(path: Path, column: str, inside: str, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Read the pictures in the order of the rows.

    Args:
        path: The file.
        column: Of the pictures.
        inside: What holds the bytes in it.
        numbers: Number of the picture in each row; below 0 if it is not used.
    Yields:
        The number of each picture and its bytes; none of one that is missing or too large to be a picture.
    Raises:
        UnreadableError: If it is damaged.
    """
    row = 0
    with opened(path) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[f"{column}.{inside}" if inside else column]):
            values = batch.column(0).field(inside) if inside else batch.column(0)
            for value in values:
                content = value.as_py() if row < len(numbers) else None
                if row < len(numbers) and numbers[row] >= 0:
                    yield numbers[row], content if content is not None and len(content) <= MOST_PICTURE_BYTES else b""
                row += 1
