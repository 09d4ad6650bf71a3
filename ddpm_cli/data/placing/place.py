"""Choose which pictures are used, on which side of a split, and of which class: one way for folders and archives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.pictures.classes import numbered
from ddpm_cli.data.pictures.settings import printable, shown
from ddpm_cli.data.placing.samples import beside_notice, pictures_of_samples
from ddpm_cli.data.placing.splits import Arrangement, Folders, Splits, arrange
from ddpm_cli.data.placing.tables import Wanted, folders_of, given_classes, marks_of_pictures, unread_columns
from ddpm_cli.errors import DataError

LOOSE = -1

Classes = tuple[NDArray[np.int64], tuple[str, ...]]
"""The class of each picture, int64 [n], and the name of each class; no names if there is but one."""


class Listing(NamedTuple):
    """Hold the names in a folder or archive, relative to it and with "/" between folders.

    Attributes:
        names: Of the pictures, in the order of `in_order_of_a_walk`.
        folders: Each ending in a slash; those that pictures lie in need not be among them.
        tables: Text of the tables, by name.
        marks: Text of each sample's file of a class, by name.
        classes: Of the pictures, where they are known; otherwise tables, marks or folders tell them.
        sharded: Whether each name begins with that of its shard, which is no folder.
        may_be_samples: Whether they may be those of WebDataset's samples though no marks say so, as in any tar.
    """

    names: Sequence[str]
    folders: Iterable[str] = ()
    tables: Mapping[str, str] = {}
    marks: Mapping[str, str] = {}
    classes: Classes | None = None
    sharded: bool = False
    may_be_samples: bool = False


class Placed(NamedTuple):
    """Hold what becomes of pictures.

    Attributes:
        used: Numbers of those that are trained on or held out.
        labels: Class of each of these, int64 [n].
        class_names: Name of each class; empty if there is but one.
        held_out: Which of them are held out, bool [n]; None if there is no split.
        notices: What was left out, and what tables say beside that.
        layout: What the folders were recognised as, for people.
        are_given: Whether the classes are not those of folders.
    """

    used: list[int]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    held_out: NDArray[np.bool_] | None
    notices: tuple[str, ...]
    layout: str
    are_given: bool = False


def place(
    root: Path,
    listing: Listing,
    source: str,
    splits: Splits = "auto",
    label_column: str | None = None,
    image_column: str | None = None,
    *,
    archive: bool = False,
) -> Placed:
    """Give pictures the classes and the side of the split that their folders, or files beside them, stand for.

    Splits are told first, whoever tells the classes. Where files tell these, folders are no classes.

    Args:
        root: The folder or archive, for messages.
        listing: The names in it.
        source: A phrase for it.
        splits: How folders are told from classes.
        label_column: Of the classes, in tables or marks; None if the user named none.
        image_column: Extension of the pictures; None takes all, but one picture of each sample of WebDataset's.
        archive: Whether it is one, in which no folder can be named or emptied.
    Raises:
        DataError: As `splits.arrange`, `samples.pictures_of_samples`, `tables.given_classes` and `classes.numbered`.
    """
    inside = [name.partition("/")[2] for name in listing.names] if listing.sharded else listing.names
    found = _arranged(root, inside, listing.folders, splits, archive)
    bases = tuple(base for base in (found.train, found.held_out) if base is not None)
    used = list(range(len(inside))) if "" in bases else [number for number, name in enumerate(inside) if name.startswith(bases)]
    used, notices = _of_samples(listing, used, source, image_column)
    given = _given(listing, used, source, label_column, notices)
    labels, class_names = given or _of_folders([inside[number] for number in used], found)
    loose = [inside[used[place]] for place in np.flatnonzero(labels == LOOSE).tolist()]
    used = [used[place] for place in np.flatnonzero(labels != LOOSE).tolist()]
    held_out = None
    if found.held_out is not None:
        held_out = np.array([inside[number].startswith(found.held_out) for number in used], np.bool_)
    told = (*_notices(root, inside, found, loose), *notices)
    return Placed(used, labels[labels != LOOSE], class_names, held_out, told, found.text, given is not None)


def _of_samples(listing: Listing, used: list[int], source: str, image_column: str | None) -> tuple[list[int], list[str]]:
    """The pictures of samples, where these may be some, and what is said of the others; a plain folder is one of pictures."""
    marked = bool(marks_of_pictures(listing.marks, listing.names))
    if image_column is None and not marked and not listing.may_be_samples:
        return used, []
    names = [listing.names[number] for number in used]
    chosen = pictures_of_samples(names, image_column, source, marked=marked)
    notices = [beside_notice(names, chosen, source)] if len(chosen) < len(used) else []
    return [used[place] for place in chosen], notices


def _given(listing: Listing, used: list[int], source: str, column: str | None, notices: list[str]) -> Classes | None:
    """The classes that the listing or files in it give the pictures used; None if folders tell them. Adds to the notices."""
    if listing.classes is not None:
        labels, class_names = listing.classes
        return labels[used], class_names
    wanted = Wanted([listing.names[number] for number in used], listing.names, source)
    given = given_classes(wanted, listing.tables, listing.marks, column)
    if given is None:
        notices += unread_columns(wanted.names, listing.tables)
        return None
    notices += given.notices
    return numbered(given.values, (), given.where)


def in_order_of_a_walk(names: Sequence[str]) -> list[int]:
    """List names in the order in which those below a folder are found: the files of each folder, sorted, then the folders in it.

    Args:
        names: Relative, with "/" between folders.
    Returns:
        Their numbers in that order.
    """
    by_folder: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        by_folder.setdefault(name[: name.rfind("/") + 1], []).append(number)
    folders = sorted(by_folder, key=lambda folder: [f"{part}/" for part in folder.split("/")[:-1]])
    return [number for folder in folders for number in sorted(by_folder[folder], key=lambda number: names[number])]


def _arranged(root: Path, names: Sequence[str], folders: Iterable[str], splits: Splits, archive: bool) -> Arrangement:
    filled = {name[: name.rfind("/") + 1] for name in names}
    every = {outer for folder in (*filled, *folders) for outer in folders_of(folder)}
    try:
        return arrange(Folders(frozenset(filled), frozenset(every)), root, splits)
    except DataError as error:
        if not archive:
            raise
        message = error.message.replace(f"The folder {root}", f"The archive {root}")
        unpacked = "Unpack it, and train on the folder after this change: "
        remedy = error.remedy if error.remedy.startswith("--set") else f"{unpacked}{error.remedy.replace(str(root), root.stem)}"
        raise DataError(message, remedy) from error


def _of_folders(names: Sequence[str], found: Arrangement) -> Classes:
    """The classes that the folders of some names stand for; LOOSE of what lies beside these folders."""
    numbers = {name: number for number, name in enumerate(found.classes)}
    folders = [name[: name.rfind("/") + 1] for name in names]
    known = {folder: _label(folder, found, numbers) for folder in set(folders)}
    class_names = tuple(printable(name) for name in found.classes) if len(found.classes) > 1 else ()
    return np.array([known[folder] for folder in folders], np.int64), class_names


def _label(folder: str, found: Arrangement, numbers: dict[str, int]) -> int:
    base = found.train if found.held_out is None or folder.startswith(found.train) else found.held_out
    top, slash, _ = folder[len(base) :].partition("/")
    return numbers.get(top if slash else "", LOOSE) if numbers else 0


def _notices(root: Path, names: Sequence[str], found: Arrangement, loose: list[str]) -> Iterator[str]:
    if loose:
        yield (
            f"Left out {counted(len(loose))} beside the class folders of {root}, which belong to none of them: "
            f"{first_few([shown(name) for name in loose])}."
        )
    if found.aside:
        listed = [_aside_text(names, folder, why) for folder, why in found.aside]
        yield f"Not trained on, nor held out, in {root}: {first_few(listed)}."
    bases = tuple(base for base in (found.train, found.held_out, *(folder for folder, _ in found.aside)) if base is not None)
    if "" not in bases and (stray := [shown(name) for name in names if not name.startswith(bases)]):
        yield f"Left out {counted(len(stray))} outside of the folders that are used in {root}: {first_few(stray)}."


def _aside_text(names: Sequence[str], folder: str, why: str) -> str:
    count = sum(name.startswith(folder) for name in names)
    return f"{shown(folder)} ({counted(count)}; {why})" if count else f"{shown(folder)} ({why})"
