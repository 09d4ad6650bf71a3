"""Give the pictures of a folder the classes of a table beside them: metadata.csv, metadata.jsonl, or EDM's dataset.json."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ddpm_cli.core.io.files import UnreadableError, read_text
from ddpm_cli.data.archives.contents import MOST_TABLE_BYTES, TABLES, facts_of
from ddpm_cli.data.archives.labels import given_classes, unread_columns
from ddpm_cli.data.pictures.classes import numbered
from ddpm_cli.data.pictures.settings import Pictures
from ddpm_cli.errors import DataError


def with_classes_of_tables(pictures: Pictures, root: Path, column: str | None) -> Pictures:
    """Replace the classes of a folder's pictures by those of a table in it, if there is one that tells them.

    Args:
        pictures: Of the folder, with the classes that its folders stand for.
        root: The folder.
        column: Of a metadata table; None reads none of these, but a dataset.json.
    Raises:
        DataError: If a table cannot be read, or some pictures have no class in it.
    """
    paths = _tables(pictures.names, root)
    try:
        tables = {name: read_text(path, MOST_TABLE_BYTES).removeprefix("\ufeff") for name, path in paths.items()}
    except (UnreadableError, OSError) as error:
        raise DataError(f"A table in {root} cannot be read: {error}.", "Write it anew, as UTF-8, or remove it.") from error
    given = given_classes(pictures.names, tables, {}, column, pictures.source)
    if given is None:
        return replace(pictures, notices=(*pictures.notices, *unread_columns(tables)))
    labels, class_names = numbered(given.values, (), given.where)

    def fingerprint(before: str) -> str:
        about = "\0".join([before, column or "", *map(facts_of, paths.values())])
        return hashlib.sha256(about.encode("utf-8", "surrogateescape")).hexdigest()

    of_pictures = pictures.fingerprint_now
    return replace(
        pictures,
        labels=labels,
        class_names=class_names,
        fingerprint=fingerprint(pictures.fingerprint),
        fingerprint_now=None if of_pictures is None else lambda: fingerprint(of_pictures()),
        notices=(*pictures.notices, *given.notices),
    )


def _tables(names: Sequence[str], root: Path) -> dict[str, Path]:
    """The tables in the folders that pictures lie in, and in those around them, by name."""
    folders = {name[: name.rfind("/") + 1] for name in names}
    around = {folder[: folder.find("/", start) + 1] for folder in folders for start in range(len(folder)) if folder[start] == "/"}
    found = {f"{folder}{table}" for folder in {"", *folders, *around} for table in TABLES if table != "dataset.json" or not folder}
    return {name: root / name for name in sorted(found) if (root / name).is_file()}
