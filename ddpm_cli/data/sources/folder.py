"""Find own pictures in a folder: flat, a subfolder for each class, or either below folders such as `train`, `val`, `test`."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.core.io.files import UnreadableError, open_descriptor
from ddpm_cli.core.io.paths import shell_word
from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.pictures.decode import SUFFIXES, require_in_proportion
from ddpm_cli.data.pictures.settings import Pictures, printable, shown
from ddpm_cli.data.pictures.splits import Arrangement, Folders, Splits, arrange
from ddpm_cli.data.sources.litter import LITTER, PACKERS_LITTER
from ddpm_cli.errors import DataError

NOWHERE, OUTSIDE = "leads nowhere", "leads out of it"
_REMEDIES = {
    NOWHERE: "Put back what links that lead nowhere stood for, or copy the pictures in their place.",
    OUTSIDE: "Follow links that lead out of it with --set data.follow_links=true, name the folder that they lead to, or copy the "
    "pictures.",
}
UNSEEN_BYTES = 1 << 24
"""Of a file, which is read without a look at its beginning."""


@dataclass
class Tree:
    """Hold the names below a folder, relative to it.

    Attributes:
        pictures: Files whose suffix is that of a picture, sorted within each folder.
        folders: All folders, each ending in a slash.
        others: How many files have another suffix.
        links: Why each link that is not followed is not.
    """

    pictures: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    others: int = 0
    links: dict[str, str] = field(default_factory=dict)


def scan_folder(root: Path, splits: Splits = "auto", *, follow_links: bool = False) -> Pictures:
    """Find the pictures below a folder; none is opened.

    Subfolders are classes, with all that lies below them; one alone is none. Folders named as splits are told from classes, see
    `splits.arrange`. Hidden files, and what systems leave in folders, are left alone.

    Args:
        root: The folder.
        splits: How folders are told from classes.
        follow_links: Follow links that lead out of the folder, each folder once.
    Raises:
        DataError: If it is missing, holds no pictures, has a class without any, or seems to have splits that make no data set.
    """
    if not root.is_dir():
        problem = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(
            f"The folder {root} {problem}.",
            "Name a folder of pictures; one that a run was trained on must be put back, or linked to.",
        )
    tree = _walk(root, frozenset({PACKERS_LITTER}) if splits == "old" else LITTER, follow_links)
    if not tree.pictures:
        raise _no_pictures(root, tree)
    filled = frozenset(f"{name.rpartition('/')[0]}/" if "/" in name else "" for name in tree.pictures)
    try:
        found = arrange(Folders(filled, frozenset(tree.folders)), root, splits)
    except DataError as error:
        if not tree.links:
            raise
        raise DataError(f"{error.message} {_links_notice(root, tree)}", error.remedy) from error  # which may be why one is empty
    return _arranged(root, tree, found)


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


def _walk(root: Path, litter: frozenset[str], follow_links: bool) -> Tree:
    """Everything below a folder, however deep, each folder before those in it."""
    tree, waiting, seen = Tree(), [""], {_identity(root): "."}
    real_root = root.resolve()
    while waiting:
        below = waiting.pop()
        files, folders = [], []
        try:
            with os.scandir(root / below) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.name.startswith(".") or entry.name.lower() in litter:
                        continue
                    name = f"{below}{entry.name}"
                    if entry.is_symlink() and (why := _why_not_followed(entry.path, name, real_root, seen, follow_links)):
                        tree.links[name] = why
                    elif entry.is_dir():
                        folders.append(f"{name}/")
                    elif entry.is_file() and os.path.splitext(name)[1].lower() in SUFFIXES:
                        files.append(name)
                    else:
                        tree.others += 1
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


class Placed(NamedTuple):
    """Hold what becomes of pictures by the folders that they lie in.

    Attributes:
        used: Numbers of those that are trained on or held out.
        labels: Class of each of these, int64 [n].
        class_names: Name of each class; empty if there is but one.
        held_out: Which of them are held out, bool [n]; None if there is no split.
        notices: What was left out.
    """

    used: list[int]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    held_out: NDArray[np.bool_] | None
    notices: tuple[str, ...]


def placed(root: Path, tree: Tree, found: Arrangement) -> Placed:
    """Give pictures the classes and the side of the split that their folders stand for.

    Args:
        root: For messages.
        tree: The names.
        found: What the folders stand for.
    """
    numbers = {name: number for number, name in enumerate(found.classes)}
    folders = [name[: name.rfind("/") + 1] for name in tree.pictures]
    known = {folder: _label(folder, found, numbers) for folder in set(folders)}
    labels = np.array([known[folder] for folder in folders], np.int64)
    used = np.flatnonzero(labels >= 0).tolist()
    loose = [tree.pictures[place] for place in np.flatnonzero(labels == LOOSE).tolist()]
    held_out = None
    if found.held_out is not None:
        held_out = np.array([tree.pictures[place].startswith(found.held_out) for place in used], np.bool_)
    class_names = tuple(printable(name) for name in found.classes) if len(found.classes) > 1 else ()
    return Placed(used, labels[used], class_names, held_out, tuple(_notices(root, tree, found, loose)))


def _arranged(root: Path, tree: Tree, found: Arrangement) -> Pictures:
    where = placed(root, tree, found)
    names = [tree.pictures[place] for place in where.used]
    return Pictures(
        name=root.name or "folder",
        source=f"the folder {root}" + (f" ({found.text})" if found.text else ""),
        names=names,
        labels=where.labels,
        class_names=where.class_names,
        held_out=where.held_out,
        fingerprint=fingerprint(root, names, where.labels, where.held_out),
        read=lambda number: read_file(root, names[number]),
        fingerprint_now=lambda: fingerprint(root, names, where.labels, where.held_out),
        check=f"ddpm data check {shell_word(root)}",
        notices=where.notices,
        ignored_files=tree.others,
        layout=found.text,
    )


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


ELSEWHERE, LOOSE = -1, -2


def _label(name: str, found: Arrangement, numbers: dict[str, int]) -> int:
    """The number of a folder's class; ELSEWHERE if it lies in none of those used, LOOSE if beside the classes in one of them."""
    base = next((base for base in (found.train, found.held_out) if base is not None and name.startswith(base)), None)
    if base is None:
        return ELSEWHERE
    top, slash, _ = name[len(base) :].partition("/")
    return numbers.get(top if slash else "", LOOSE) if numbers else 0


def fingerprint(
    root: Path, names: Sequence[str], labels: NDArray[np.int64] | None = None, held_out: NDArray[np.bool_] | None = None
) -> str:
    """Sum what changes when a file below `root` comes, goes, is written to or counts for another class, though none is read.

    It holds names, sizes and two times: that of the content can be put back by a tool, that of the last change cannot.
    """
    digest = hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape"))
    for array in (labels, held_out):
        digest.update(b"\0" if array is None else array.tobytes())
    base = os.fspath(root)
    for name in names:
        digest.update(name.encode("utf-8", "surrogateescape"))
        with contextlib.suppress(OSError):  # one that is gone meanwhile is told of when it is read
            facts = os.stat(f"{base}/{name}")  # no Path, which takes longer to make than the file to look at
            digest.update(f"\0{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}\0".encode())
    return digest.hexdigest()


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


def _notices(root: Path, tree: Tree, found: Arrangement, loose: list[str]) -> Iterator[str]:
    if loose:
        yield (
            f"Left out {counted(len(loose))} beside the class folders of {root}, which belong to none of them: "
            f"{first_few([shown(name) for name in loose])}."
        )
    if found.aside:
        listed = [_aside_text(tree, folder, why) for folder, why in found.aside]
        yield f"Not trained on, nor held out, in {root}: {first_few(listed)}."
    bases = tuple(base for base in (found.train, found.held_out, *(folder for folder, _ in found.aside)) if base is not None)
    if stray := [shown(name) for name in tree.pictures if not name.startswith(bases)]:
        yield f"Left out {counted(len(stray))} outside of the folders that are used in {root}: {first_few(stray)}."
    if tree.links:
        yield _links_notice(root, tree)


def _aside_text(tree: Tree, folder: str, why: str) -> str:
    count = sum(name.startswith(folder) for name in tree.pictures)
    return f"{shown(folder)} ({counted(count)}; {why})" if count else f"{shown(folder)} ({why})"
