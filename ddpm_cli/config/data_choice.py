"""What a user's one word for the data stands for: the name of a data set, a folder, or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ddpm_cli.config.outline import sections
from ddpm_cli.errors import DataError

ARRAY_SUFFIXES = (".npz", ".npy")


def data_flags(text: str | None, origin: str = "--data") -> dict[str, tuple[Any, str]]:
    """The config's keys that one word for the data sets; a data set's name goes before a folder's of the same name.

    Args:
        text: As typed; None was not given.
        origin: The flag or argument that it was given by.
    Raises:
        DataError: If it is neither a name nor the path of a folder or of an array file.
    """
    if text is None:
        return {}
    names = sections()["data"]
    path = Path(text).expanduser()
    if text in names:
        found: dict[str, Any] = {"kind": text}
    elif path.is_dir():
        found = {"kind": "folder", "root": path}
    elif path.is_file() and path.suffix.lower() in ARRAY_SUFFIXES:
        found = {"kind": "arrays", "path": path}
    else:
        problem = "is a file, but no .npz or .npy" if path.exists() else "is no data set, and no folder or file of that name"
        raise DataError(
            f"{origin} {text} {problem}.", f"Data sets: {', '.join(names)}; or a folder of pictures, or an .npz or .npy file."
        )
    return {f"data.{key}": (value, origin) for key, value in found.items()}


def same_name_notice(text: str | None) -> str | None:
    """What to say where a word is taken for the name of a data set, and a folder has it too."""
    if text not in sections()["data"] or not Path(text).is_dir():
        return None
    return f"{text} is taken for the data set of that name; for the folder here say ./{text}."
