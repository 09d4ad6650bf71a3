"""A folder of own pictures: flat, a subfolder for each class, or either below `train` and `test`."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ddpm_cli.data.picture import SUFFIXES, require_in_proportion
from ddpm_cli.data.pictures import Pictures, printable
from ddpm_cli.errors import DataError
from ddpm_cli.files import UnreadableError, open_descriptor
from ddpm_cli.paths import shell_word
from ddpm_cli.wording import counted, first_few

HELD_OUT_NAMES = ("test", "val", "valid", "validation")
PACKERS_LITTER = "__MACOSX"
UNSEEN_BYTES = 1 << 24
"""Of a file, which is read without a look at its beginning."""


@dataclass
class Tree:
    """The names below a folder, relative to it.

    Attributes:
        pictures: Files whose suffix is that of a picture, sorted within each folder.
        others: How many files have another suffix.
        links: Links that lead out of the folder, or to other folders; they are not followed.
    """

    pictures: list[str] = field(default_factory=list)
    others: int = 0
    links: list[str] = field(default_factory=list)


def scan_folder(root: Path) -> Pictures:
    """Find the pictures below a folder; none is opened.

    Subfolders are classes, with all that lies below them; where no pictures lie in any, there are no classes. If the subfolders
    are exactly `train` and one of `test`, `val`, `valid`, `validation`, they are the split, and classes are looked for in each.
    Hidden files and links that lead out of the folder are left alone.

    Args:
        root: The folder.
    Raises:
        DataError: If it is missing, holds no pictures, or has a class without any.
    """
    if not root.is_dir():
        problem = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(
            f"The folder {root} {problem}.",
            "Name a folder of pictures; one that a run was trained on must be put back, or linked to.",
        )
    tree = _walk(root, root.resolve())
    if not tree.pictures:
        others = f", only {counted(tree.others, 'file')} of other kinds" if tree.others else ""
        if tree.links:
            raise DataError(
                f"There are no pictures in the folder {root}{others}, and links that lead out of it are not followed: "
                f"{first_few([printable(name) for name in tree.links])}.",
                "Name the folder that they lead to, or copy the pictures.",
            )
        raise DataError(
            f"There are no pictures in the folder {root}{others}.",
            "Pictures are files named .png, .jpg, .webp, .gif, .bmp, .tif ...",
        )
    return _arrange(root, tree)


def _walk(root: Path, real_root: Path) -> Tree:
    """All that lies below a folder, however deep: the pictures of each folder before those of its subfolders."""
    tree, left = Tree(), [""]
    while left:
        left += reversed(_list_folder(root, real_root, left.pop(), tree))
    return tree


def _list_folder(root: Path, real_root: Path, below: str, tree: Tree) -> list[str]:
    """Note what lies in a folder itself; returns its subfolders, sorted."""
    files, folders = [], []
    try:
        with os.scandir(root / below) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name == PACKERS_LITTER:
                    continue
                name = f"{below}{entry.name}"
                if entry.is_symlink() and not _leads_to_own_file(entry.path, real_root):
                    tree.links.append(name)
                elif entry.is_dir():
                    folders.append(f"{name}/")
                elif entry.is_file() and os.path.splitext(name)[1].lower() in SUFFIXES:
                    files.append(name)
                else:
                    tree.others += 1
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise DataError(
                f"The folder {root} holds folders in folders, {below.count('/'):,} deep, whose path is too long to be read.",
                "Move those far down up, or out of it.",
            ) from error
        raise DataError(f"The folder {root / below} cannot be read: {error.strerror}.", "Check its permissions.") from error
    tree.pictures += sorted(files)
    return sorted(folders)


def _leads_to_own_file(link: str, real_root: Path) -> bool:
    target = Path(os.path.realpath(link))
    return target.is_file() and target.is_relative_to(real_root)


def _arrange(root: Path, tree: Tree) -> Pictures:
    splits = _split_folders(root)
    homes = {_home(name, splits) for name in tree.pictures} - {None}
    class_homes = {home for home in homes if home is not None and home not in splits}
    if class_homes:
        _require_filled(root, splits, class_homes)
    classes = sorted({_last_part(home) for home in class_homes})
    numbers = {home: classes.index(_last_part(home)) for home in class_homes} or dict.fromkeys(splits, 0)
    names = [name for name in tree.pictures if _home(name, splits) in numbers]
    loose = [name for name in tree.pictures if _home(name, splits) not in numbers]
    return Pictures(
        name=root.name or "folder",
        source=f"the folder {root}",
        names=names,
        labels=np.fromiter((numbers[_home(name, splits) or ""] for name in names), np.int64, len(names)),
        class_names=tuple(printable(name) for name in classes),
        held_out=np.array([name.startswith(splits[1]) for name in names], np.bool_) if len(splits) == 2 else None,
        fingerprint=fingerprint(root, names),
        read=lambda number: read_file(root, names[number]),
        fingerprint_now=lambda: fingerprint(root, names),
        check=f"ddpm data check {shell_word(root)}",
        notices=tuple(_notices(root, loose, tree.links)),
        ignored_files=tree.others,
    )


def _split_folders(root: Path) -> tuple[str, ...]:
    """The folders to train on and to hold out, or the root itself."""
    folders = _visible_folders(root, "")
    found = [name for name in HELD_OUT_NAMES if sorted(folders) == sorted(["train/", f"{name}/"])]
    return ("train/", f"{found[0]}/") if found else ("",)


def _visible_folders(root: Path, below: str) -> list[str]:
    with os.scandir(root / below) as entries:
        return [
            f"{below}{entry.name}/"
            for entry in entries
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".") and entry.name != PACKERS_LITTER
        ]


def _home(name: str, splits: tuple[str, ...]) -> str | None:
    """The class folder that a picture lies in, at any depth; else its split's folder; None if it lies beside these."""
    for split in splits:
        if name.startswith(split):
            top, slash, _ = name[len(split) :].partition("/")
            return f"{split}{top}/" if slash else split
    return None


def _last_part(folder: str) -> str:
    return folder.rstrip("/").rpartition("/")[2]


def _require_filled(root: Path, splits: tuple[str, ...], class_homes: set[str]) -> None:
    folders = [folder for split in splits for folder in _visible_folders(root, split)]
    empty = sorted(printable(folder) for folder in folders if folder not in class_homes)
    if empty:
        raise DataError(
            f"The folder {root} has {counted(len(empty), 'class folder')} without pictures, of {len(folders):,}: "
            f"{first_few(empty)}.",
            "Put some into them, or remove them.",
        )


def fingerprint(root: Path, names: Sequence[str]) -> str:
    """A sum that changes when a file below `root` comes, goes, or is written to, though none is read for it.

    It holds names, sizes and two times: that of the content can be put back by a tool, that of the last change cannot.
    """
    digest = hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape"))
    for name in names:
        digest.update(name.encode("utf-8", "surrogateescape"))
        with contextlib.suppress(OSError):  # one that is gone meanwhile is told of when it is read
            facts = os.stat(root / name)
            digest.update(f"\0{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}\0".encode())
    return digest.hexdigest()


def read_file(root: Path, name: str) -> bytes:
    """The bytes of an ordinary file below `root`.

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


def _notices(root: Path, loose: list[str], links: list[str]) -> list[str]:
    notices = []
    if loose:
        notices.append(
            f"Left out {counted(len(loose))} beside the class folders of {root}, which belong to none of them: "
            f"{first_few([printable(name) for name in loose])}."
        )
    if links:
        notices.append(f"Did not follow {counted(len(links), 'link')} in {root}: {first_few([printable(name) for name in links])}.")
    return notices
