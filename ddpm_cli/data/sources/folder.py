"""Find own pictures in a folder: flat, a subfolder for each class, or either below folders such as `train`, `val`, `test`."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.files import UnreadableError, open_descriptor, read_bytes
from ddpm_cli.core.io.paths import shell_word
from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.pictures.decode import require_in_proportion
from ddpm_cli.data.pictures.settings import Pictures, shown
from ddpm_cli.data.placing.place import Listing, Placed, place
from ddpm_cli.data.placing.splits import Splits
from ddpm_cli.data.placing.tables import MOST_BYTES, is_too_large, kind_of, text_of
from ddpm_cli.data.sources.litter import LITTER, PACKERS_LITTER
from ddpm_cli.errors import DataError

NOWHERE, OUTSIDE = "leads nowhere", "leads out of it"
_REMEDIES = {
    NOWHERE: "Put back what links that lead nowhere stood for, or copy the pictures in their place.",
    OUTSIDE: "Follow links that lead out of it with --set data.follow_links=true, name the folder that they lead to, or copy the "
    "pictures.",
}
AT_ONCE = 1000
UNSEEN_BYTES = 1 << 24
"""Of a file, which is read without a look at its beginning."""


@dataclass
class Tree:
    """Hold the names below a folder, relative to it.

    Attributes:
        pictures: Files whose suffix is that of a picture, sorted within each folder.
        folders: All folders, each ending in a slash.
        tables: Files that say the classes of pictures.
        marks: Files that say the class of one sample each.
        others: How many files are neither.
        links: Why each link that is not followed is not.
    """

    pictures: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    others: int = 0
    links: dict[str, str] = field(default_factory=dict)


def scan_folder(
    root: Path,
    splits: Splits = "auto",
    *,
    follow_links: bool = False,
    with_tables: bool = False,
    label_column: str | None = None,
    image_column: str | None = None,
) -> Pictures:
    """Find the pictures below a folder; none is opened.

    Subfolders are classes, with all that lies below them; one alone is none. Folders named as splits are told from classes, see
    `splits.arrange`. Hidden files, and what systems leave in folders, are left alone.

    Args:
        root: The folder.
        splits: How folders are told from classes.
        follow_links: Follow links that lead out of the folder, each folder once.
        with_tables: Read the classes from dataset.json, metadata tables and samples' files of a class, where there are any.
        label_column: Of the classes, in a metadata table or samples' .json files; None for dataset.json or .cls files.
        image_column: Extension of the pictures, see `samples.pictures_of_samples`; None for all of those that are no samples.
    Raises:
        DataError: If it is missing, holds no pictures, has a class without any, seems to have splits that make no data set, or
            tables that cannot be read or give some pictures no class.
    """
    if not root.is_dir():
        problem = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(
            f"The folder {root} {problem}.",
            "Name a folder of pictures; one that a run was trained on must be put back, or linked to.",
        )
    litter = frozenset({PACKERS_LITTER}) if splits == "old" else LITTER
    tree = _walk(root, litter, follow_links, wants_json=label_column is not None)
    if not tree.pictures:
        raise _no_pictures(root, tree)
    listing = Listing(tree.pictures, tree.folders)
    if with_tables:
        listing = listing._replace(tables=_texts(root, tree.tables), marks=_texts(root, tree.marks))
    source = f"the folder {root}"
    try:
        found = place(root, listing, source, splits, label_column, image_column)
    except DataError as error:
        if not tree.links:
            raise
        raise DataError(f"{error.message} {_links_notice(root, tree)}", error.remedy) from error  # which may be why one is empty
    return _pictures(root, source, tree, found)


class _Texts(Mapping[str, str]):
    """Read tables or marks when they are asked for, by their names."""

    def __init__(self, names: Sequence[str], read: Callable[[str], str]) -> None:
        self._names, self._read = dict.fromkeys(names), read

    def __getitem__(self, name: str) -> str:
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _texts(root: Path, names: Sequence[str]) -> Mapping[str, str]:
    def read(name: str) -> str:
        try:
            return text_of(read_bytes(root / name, MOST_BYTES["table"]))
        except OSError as error:
            raise UnreadableError(f"cannot be read: {error.strerror or error}") from error

    return _Texts(names, read)


def _no_pictures(root: Path, tree: Tree) -> DataError:
    others = f", only {counted(tree.others, 'file')} of other kinds" if tree.others else ""
    links = f", and {counted(len(tree.links), 'link is', 'links are')} not followed: {_listed_links(tree)}" if tree.links else ""
    remedies = [_REMEDIES[why] for why in sorted({*tree.links.values()}) if why in _REMEDIES]
    kinds = "Pictures are files named .png, .jpg, .webp, .gif, .bmp, .tif ..."
    return DataError(f"There are no pictures in the folder {root}{others}{links}.", " ".join(remedies) or kinds)


def _links_notice(root: Path, tree: Tree) -> str:
    return f"Did not follow {counted(len(tree.links), 'link')} in {root}: {_listed_links(tree)}."


def _listed_links(tree: Tree) -> str:
    return first_few([f"{shown(name)} ({why})" for name, why in tree.links.items()])


def _walk(root: Path, litter: frozenset[str], follow_links: bool, *, wants_json: bool) -> Tree:
    """Everything below a folder, however deep, each folder before those in it."""
    tree, waiting, seen = Tree(), [""], {_identity(root): "."}
    real_root = root.resolve()
    while waiting:
        below = waiting.pop()
        files, folders = [], []
        try:
            with os.scandir(root / below) as entries:
                for entry in sorted(entries, key=attrgetter("name")):
                    name, kind = f"{below}{entry.name}", kind_of(entry.name, wants_json=wants_json)
                    if entry.name.startswith("."):
                        continue
                    if kind == "picture" and entry.is_file(follow_symlinks=False):  # nearly always, so asked first
                        files.append(name)
                    elif entry.name.lower() in litter:
                        continue
                    elif entry.is_symlink() and (why := _why_not_followed(entry.path, name, real_root, seen, follow_links)):
                        tree.links[name] = why
                    elif entry.is_dir():
                        folders.append(f"{name}/")
                    elif (
                        not entry.is_file()
                        or kind == "other"
                        or (kind == "mark" and is_too_large(kind, name, entry.stat().st_size))
                    ):
                        tree.others += 1
                    else:
                        {"picture": files, "table": tree.tables, "mark": tree.marks}[kind].append(name)
        except OSError as error:
            raise _unread(root, below, error) from error
        tree.pictures += sorted(files)
        tree.folders += folders
        waiting += sorted(folders, reverse=True)
    return tree


def _unread(root: Path, below: str, error: OSError) -> DataError:
    if error.errno == errno.ENAMETOOLONG:
        return DataError(
            f"The folder {root} holds folders in folders, {below.count('/'):,} deep, whose path is too long to be read.",
            "Move those far down up, or out of it.",
        )
    return DataError(f"The folder {root / shown(below)} cannot be read: {error.strerror}.", "Check its permissions.")


def _identity(folder: str | Path) -> tuple[int, int]:
    facts = os.stat(folder)
    return facts.st_dev, facts.st_ino


def _why_not_followed(link: str, name: str, real_root: Path, seen: dict[tuple[int, int], str], outside: bool) -> str:
    """Why a link is left alone; empty if it leads to a file within the root or, if that is wanted, to something new outside.

    Args:
        link: Its path.
        name: What it is called in messages.
        real_root: The root, without links.
        seen: Names of the links by the folders that they led to, and the root; gets this one.
        outside: Whether links out of the root are followed.
    """
    target = Path(os.path.realpath(link))
    if not os.path.exists(target):
        return NOWHERE
    if target.is_relative_to(real_root):
        return "" if target.is_file() else "leads to what is in it already"
    if not outside:
        return OUTSIDE
    if not target.is_dir():
        return "" if target.is_file() else "leads to no ordinary file"
    if real_root.is_relative_to(target):
        return "leads to a folder around it"
    first = seen.setdefault(_identity(target), name)
    return "" if first == name else f"leads where {shown(first)} does"


def _pictures(root: Path, source: str, tree: Tree, found: Placed) -> Pictures:
    names = [tree.pictures[number] for number in found.used]
    watched = [*names, *tree.tables, *tree.marks] if found.are_given else names

    def of_now() -> str:
        return fingerprint(root, watched, found.labels, found.held_out)

    return Pictures(
        name=root.name or "folder",
        source=source + (f" ({found.layout})" if found.layout else ""),
        names=names,
        labels=found.labels,
        class_names=found.class_names,
        held_out=found.held_out,
        fingerprint=of_now(),
        read=lambda number: read_file(root, names[number]),
        fingerprint_now=of_now,
        check=f"ddpm data check {shell_word(root)}",
        notices=(*found.notices, *([_links_notice(root, tree)] if tree.links else [])),
        ignored_files=tree.others,
        layout=found.layout,
    )


def fingerprint(
    root: Path, names: Sequence[str], labels: NDArray[np.int64] | None = None, held_out: NDArray[np.bool_] | None = None
) -> str:
    """Sum what changes when a file below `root` comes, goes, is written to or counts for another class, though none is read.

    It holds names, sizes and two times: that of the content can be put back by a tool, that of the last change cannot.
    """
    digest = hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape"))
    for array in (labels, held_out):
        digest.update(b"\0" if array is None else array.tobytes())
    for start in range(0, len(names), AT_ONCE):
        text = "".join(map(partial(_facts, f"{root}/"), names[start : start + AT_ONCE]))
        digest.update(text.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _facts(base: str, name: str) -> str:
    try:
        facts = os.stat(base + name)  # no Path, which takes longer to make than the file to look at
    except OSError:  # one that is gone meanwhile is told of when it is read
        return name
    return f"{name}\0{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}\0"


def read_file(root: Path, name: str) -> bytes:
    """Read an ordinary file below `root`.

    Raises:
        UnreadableError: If it is something else, no picture, or far larger than its pixels need.
        OSError: If it cannot be opened.
    """
    descriptor = open_descriptor(root / name, os.O_RDONLY, follow=True)
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise UnreadableError("is not an ordinary file")
        if facts.st_size > UNSEEN_BYTES:
            require_in_proportion(file, facts.st_size)
            file.seek(0)
        return file.read()
