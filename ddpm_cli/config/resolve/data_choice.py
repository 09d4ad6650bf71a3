"""Find what a user's one word for the data stands for: the name of a data set, a folder, or a file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ddpm_cli.config.resolve.other_names import kinds_called_otherwise
from ddpm_cli.config.resolve.outline import sections
from ddpm_cli.core.io.files import printable
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.core.names import meant, nearest
from ddpm_cli.data.volumes.recognise import format_of, holds_scans
from ddpm_cli.errors import DataError

ARRAY_SUFFIXES = (".npz", ".npy", ".mat", ".h5", ".hdf5", ".bin", ".csv", ".csv.gz")
PICKLED = re.compile(r"(train_data_batch_\d+|val_data)")
"""Published files of arrays that their reader names, to refuse them with the reason."""
BESIDE_ARRAYS = (*ARRAY_SUFFIXES, ".txt", ".md", ".json")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst")
ARCHIVE_SUFFIXES = (".zip", ".parquet", *TAR_SUFFIXES)
SHARDS = re.compile(r"\{\d+\.\.\d+\}")
LOOKED_AT = 100
"""Names in a folder, which tell whether it is one of shards."""


def data_flags(text: str | None, origin: str = "--data") -> dict[str, tuple[Any, str]]:
    """List the config's keys that one word for the data sets.

    A data set's name goes before a folder or file of the same name, and these go before a name that is only spelt alike.

    Args:
        text: As typed; None was not given.
        origin: The flag or argument that it was given by.
    Raises:
        DataError: If it is neither a name nor the path of a folder, an array file or a scan.
    """
    if text is None:
        return {}
    names = sections()["data"]
    path = None if text in names else user_path(text, origin, DataError)
    found = {"kind": text} if path is None else _at(path)
    if not found and (known := meant(text, names)):
        found = {"kind": known}
    if path is not None and not found:
        known_suffixes = (*ARRAY_SUFFIXES, *ARCHIVE_SUFFIXES)
        problem = (
            f"is a file, but none of {', '.join(known_suffixes)}, nor a scan"
            if path.exists()
            else "is no data set, and no folder or file of that name"
        )
        raise DataError(
            f"{origin} {printable(text)} {problem}; {nearest(text, names, kinds_called_otherwise('data'))}.",
            f"Data sets: {', '.join(names)}; or a folder of pictures or scans, an archive of pictures, a file of arrays such "
            "as .npz, or a scan.",
        )
    return {f"data.{key}": (value, origin) for key, value in found.items()}


def _at(path: Path) -> dict[str, Any]:
    """What lies at a path; nothing if that is no data."""
    if path.is_dir():
        if _is_of_arrays(path):
            return {"kind": "arrays", "path": path}
        if _holds_shards(path):
            return {"kind": "archive", "path": path}
        return {"kind": "slices", "path": path} if holds_scans(path) else {"kind": "folder", "root": path}
    is_archive = path.name.lower().endswith(ARCHIVE_SUFFIXES)
    if is_archive and (path.is_file() or SHARDS.search(path.name)):
        return {"kind": "archive", "path": path}
    if path.is_file() and is_array_file(path.name):
        return {"kind": "arrays", "path": path}
    return {"kind": "slices", "path": path} if path.is_file() and format_of(path, pages=False) else {}


def is_array_file(name: str) -> bool:
    """Tell by its name whether a file is one of arrays."""
    return name.lower().endswith(ARRAY_SUFFIXES) or PICKLED.fullmatch(name) is not None


def _is_of_arrays(folder: Path) -> bool:
    """Whether a folder is of a format of arrays, and holds nothing but such files and texts; one of pictures is soon left."""
    from ddpm_cli.data.sources.containers.found import Found
    from ddpm_cli.data.sources.formats.registry import READERS

    with os.scandir(folder) as entries:
        shown = (entry for entry in entries if not entry.name.startswith("."))
        if any(entry.is_dir() or not (entry.name.endswith(BESIDE_ARRAYS) or is_array_file(entry.name)) for entry in shown):
            return False
    return any(reader.recognises(Found(folder, {})) for reader in READERS)


def _holds_shards(folder: Path) -> bool:
    """Whether a folder holds numbered .tar files, and beside them no folders."""
    try:
        with os.scandir(folder) as entries:
            some = [(entry.name.lower(), entry.is_dir()) for entry in islice(entries, LOOKED_AT)]
    except OSError:
        return False
    tars = sum(name.endswith(TAR_SUFFIXES) and any(map(str.isdigit, name)) for name, _ in some)
    return tars > len(some) / 2 and not any(is_dir for _, is_dir in some)


def data_notices(text: str | None) -> Iterator[str]:
    """Say where one word is the name of a data set and that of a folder or file here."""
    known = None if text is None else meant(text, sections()["data"])
    if text is None or known is None or not _at(Path(text)):
        return
    taken = "the data set" if text == known else "what lies here"
    other = f"./{text} is what lies here" if text == known else f"{known} is the data set"
    yield f"{text} is taken for {taken}; {other}."
