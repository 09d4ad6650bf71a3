"""Give the pictures of an archive the classes and the side of the split that their names, or tables beside them, stand for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ddpm_cli.data.archives.contents import folders_of
from ddpm_cli.data.archives.labels import Given
from ddpm_cli.data.pictures.classes import numbered
from ddpm_cli.data.pictures.splits import Arrangement, Folders, Splits, arrange
from ddpm_cli.data.sources.folder import Placed, Tree, placed
from ddpm_cli.errors import DataError


def arranged(
    path: Path, names: Sequence[str], folders: Iterable[str], splits: Splits, given: Given | None = None
) -> tuple[Placed, Arrangement]:
    """Group the pictures of an archive as those of a folder are.

    Args:
        path: The archive, for messages.
        names: Of the pictures.
        folders: In it, each ending in a slash; those that pictures lie in need not be among them.
        splits: How folders are told from classes.
        given: The class of each picture; None if folders tell it.
    Raises:
        DataError: As `splits.arrange` and `classes.numbered`.
    """
    found = Arrangement()
    if given is None or given.in_folders:
        filled = {name[: name.rfind("/") + 1] for name in names}
        every = {*folders, *(outer for folder in filled for outer in folders_of(folder))}
        every |= {outer for folder in folders for outer in folders_of(folder)}
        found = _arrange(path, Folders(frozenset(filled), frozenset(every)), splits)
    if given is None:
        return placed(path, Tree(list(names), sorted(folders)), found), found
    found = found._replace(classes=())
    place = placed(path, Tree(list(names)), found)
    labels, class_names = numbered([given.values[number] for number in place.used], (), given.where)
    return place._replace(labels=labels, class_names=class_names), found


def _arrange(path: Path, folders: Folders, splits: Splits) -> Arrangement:
    """As `arrange`, with messages that are true of an archive, in which no folder can be named or emptied."""
    try:
        return arrange(folders, path, splits)
    except DataError as error:
        message = error.message.replace(f"The folder {path}", f"The archive {path}")
        unpacked = "Unpack it, and train on the folder after this change: "
        remedy = error.remedy if error.remedy.startswith("--set") else f"{unpacked}{error.remedy.replace(str(path), path.stem)}"
        raise DataError(message, remedy) from error
