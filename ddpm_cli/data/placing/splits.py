"""Recognise what the folders of a data set stand for: splits, classes, or pictures beside their annotations."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.pictures.settings import printable, shown
from ddpm_cli.errors import DataError

Splits = Literal["auto", "none", "old"]
Role = Literal["train", "val", "test", "aside"]

_NAMES: dict[Role, tuple[str, ...]] = {
    "train": ("train", "training", "trn", "trainval", "learn", "learning"),
    "val": ("val", "valid", "validate", "validation", "dev", "eval", "evaluate", "evaluation"),
    "test": ("test", "testing", "tst", "holdout", "heldout", "infer", "inference", "gallery", "query"),
}
_ONLY_BESIDE_TRAIN = frozenset({"infer", "inference", "gallery", "query"})
"""Words that people call other folders too."""
_IMAGES = frozenset({"image", "img", "jpeg", "jpg", "png", "picture", "photo"})
_FILLERS = _IMAGES | {"set", "data", "dataset", "folder", "split"}
_WORDS = {f"{word}{end}": role for role, words in _NAMES.items() for word in words for end in ("", *_FILLERS)}
_ANNOTATIONS = frozenset(
    {"label", "annotation", "annot", "mask", "segmentation", "trimap", "bbox", "box", "boxe", "groundtruth", "truth", "gt"}
    | {"imageset", "xml", "json", "txt", "csv", "meta", "metadata"}
)
"""Words for what people keep beside pictures and which is no class: boxes, masks, tables."""
_ASIDE = _ANNOTATIONS | {"unlabeled", "unlabelled", "extra", "pred", "prediction"}
ANNOTATIONS_UNUSED = "annotations are not read"
MOST_SPLITS = 10
"""Folders of the same inner folders that are taken for splits; what there is more of are classes, each seen from some sides."""
_YEAR = re.compile(r"(19|20)\d\d")
_OLD_HELD_OUT = ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class Folders:
    """Hold the folders below a root, each relative to it and ending in a slash; the root itself is "".

    Attributes:
        filled: Those that a picture lies in, not counting what lies deeper.
        every: All but the root.
    """

    filled: frozenset[str]
    every: frozenset[str]

    def below(self, folder: str) -> list[str]:
        """List the folders in a folder that hold pictures at any depth."""
        return sorted(self._holding.get(folder, ()))

    def bare(self, folder: str) -> list[str]:
        """List the folders in a folder without any pictures."""
        return sorted(self._children.get(folder, set()) - self._holding.get(folder, set()))

    @cached_property
    def _holding(self) -> dict[str, set[str]]:
        return _by_parent(self.filled)

    @cached_property
    def _children(self) -> dict[str, set[str]]:
        return _by_parent(self.every)


def _by_parent(folders: Iterable[str]) -> dict[str, set[str]]:
    """Which folders lie directly in each folder, of these and all above them."""
    children: dict[str, set[str]] = {}
    for folder in folders:
        while folder:
            parent = folder.rstrip("/").rpartition("/")[0]
            inside = children.setdefault(f"{parent}/" if parent else "", set())
            if folder in inside:
                break
            inside.add(folder)
            folder = f"{parent}/" if parent else ""
    return children


class Arrangement(NamedTuple):
    """Hold what is trained on and held out.

    Attributes:
        train: The folder to train on, relative to the root and ending in a slash, or "".
        held_out: The folder to hold out; None if the pictures are to be split by their content.
        classes: Names of the class folders in `train`; none where there are no classes.
        aside: Folders with pictures that are neither trained on nor held out, or with annotations, each with a reason.
    """

    train: str = ""
    held_out: str | None = None
    classes: tuple[str, ...] = ()
    aside: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """Say what was recognised, for people; nothing for classes or pictures in the root itself."""
        if self.held_out is None:
            return f"the pictures below {shown(self.train)}" if self.train else ""
        return f"{shown(self.train)} to train on, {shown(self.held_out)} held out"


def arrange(folders: Folders, root: Path, splits: Splits = "auto") -> Arrangement:
    """Tell splits from classes by the names of folders.

    Args:
        folders: Below the root.
        root: For messages.
        splits: "auto" recognises splits, folders around a whole data set, and images beside their annotations; "none" takes every
            folder in the root, or in the only one in it, for a class; "old" is what earlier versions did: only `train` beside
            one of `test`, `val`, `valid` and `validation` is a split.
    Raises:
        DataError: If folders look like splits and make none, or a class has no pictures.
    """
    if splits == "old":
        return _arrange_as_before(folders, root)
    if splits == "none":
        base = _innermost(folders)
        return Arrangement(base, classes=_classes(folders, base, root))
    base, aside = _unwrapped(folders, "")
    found = _split(folders, base, root)
    if found is None:
        classes = _classes(folders, base, root)
        _refuse_splits_in_classes(folders, base, root)
        _refuse_splits_by_other_names(folders, base, root)
        return Arrangement(base, None, classes, aside)
    return found._replace(aside=(*aside, *found.aside))


# ----------------------------------------------------------------------------------------------------------------- names


def _words(folder: str) -> list[str]:
    """The words of a folder's name, singular and without numbers: `Stage1_TrainImages/` has stage, train, image."""
    words = [word.lower().removesuffix("s") for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name_of(folder))]
    return [whole] if (whole := "".join(words)) in _WORDS else words  # held-out is one word


def name_of(folder: str) -> str:
    """Take the last part of a folder's path."""
    return folder.rstrip("/").rpartition("/")[2]


def _role(folder: str) -> Role | None:
    words = _words(folder)
    if any(word in _ASIDE for word in (*words, "".join(words))):
        return "aside"
    return next((_WORDS[word] for word in words if word in _WORDS), None)


def _roles(siblings: Sequence[str]) -> dict[str, Role | None]:
    """The role of each of some folders that lie beside each other."""
    roles = {folder: _role(folder) for folder in siblings}
    if "train" in roles.values():
        return roles
    return {folder: None if _ONLY_BESIDE_TRAIN.intersection(_words(folder)) else role for folder, role in roles.items()}


def _rest(folder: str) -> tuple[str, ...]:
    """What a name says beside its role, which all splits of a set share: `seg_train` and `seg_test` have seg."""
    return tuple(word for word in _words(folder) if word not in _WORDS and word not in _FILLERS)


def _is_images(folder: str) -> bool:
    words = _words(folder)
    return bool(words) and all(word in _IMAGES for word in words)


def _is_split(folders: Sequence[str]) -> bool:
    """Whether some folders are plainly named as something to train on and something to hold out."""
    plain = {_role(folder) for folder in folders if not _rest(folder)}
    return "train" in plain and bool(plain & {"val", "test"})


# --------------------------------------------------------------------------------------------------------------- wrappers


def _unwrapped(
    folders: Folders, base: str, *, in_split: bool = False, classes: Sequence[str] = ()
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Go down while a folder holds nothing but one other, or images beside their annotations.

    Args:
        folders: Of the data set.
        base: Where to begin.
        in_split: Whether that is a split, in which a folder of that name is none.
        classes: Names that are those of classes, even of one alone.
    Returns:
        Where that ends, and the annotations passed by.
    """
    aside: list[tuple[str, str]] = []
    while (inner := _inner(folders, base, in_split)) is not None and name_of(inner) not in classes:
        aside += [(folder, ANNOTATIONS_UNUSED) for folder in _beside(folders, base, inner)]
        base = inner
    return base, tuple(aside)


def _innermost(folders: Folders) -> str:
    """The folder that holds all others, as an archive has one more around all than the folder that it was made of."""
    base = ""
    while base not in folders.filled and len(inner := folders.below(base)) == 1 and not folders.bare(base):
        base = inner[0]
    return base


def _inner(folders: Folders, base: str, in_split: bool) -> str | None:
    subfolders, bare = folders.below(base), folders.bare(base)
    images = [folder for folder in subfolders if _is_images(folder)]
    if len(images) == 1 and all(_role(folder) == "aside" for folder in subfolders if folder not in images):
        return images[0]
    if len(subfolders) != 1 or base in folders.filled or any(_role(folder) != "aside" for folder in bare):
        return None
    role = _roles(subfolders)[subfolders[0]]
    return None if role in ("val", "test") and not in_split else subfolders[0]


def _beside(folders: Folders, base: str, inner: str) -> list[str]:
    return [folder for folder in (*folders.below(base), *folders.bare(base)) if folder != inner and _role(folder) == "aside"]


# ----------------------------------------------------------------------------------------------------------------- splits


def _split(folders: Folders, base: str, root: Path) -> Arrangement | None:
    """The splits in a folder; None if its folders are no splits."""
    subfolders = folders.below(base)
    roles = _roles(subfolders)
    by_role = {role: [folder for folder in subfolders if roles[folder] == role] for role in ("train", "val", "test", "aside", None)}
    trains, candidates, unknown = by_role["train"], [*by_role["val"], *by_role["test"]], by_role[None]
    if unknown:
        if _is_split(subfolders):
            _refuse(root, base, subfolders, f"{_listed(unknown)} beside them is neither")
        _refuse_split_among_classes(folders, base, root, trains, [folder for folder in by_role["test"] if not _rest(folder)])
        return None
    if not trains and candidates:
        empty = [folder for folder in folders.bare(base) if _role(folder) == "train"]
        _refuse(root, base, candidates, f"{_listed(empty)} has no pictures" if empty else "there is none to train on")
    if not trains or (not candidates and (len(trains) > 1 or any(_role(folder) is None for folder in folders.bare(base)))):
        return None
    if len(trains) > 1 or len({_rest(folder) for folder in (*trains, *candidates)}) > 1:
        _refuse(root, base, [*trains, *candidates], "it does not show which of them belong together")
    return _with_held_out(folders, trains[0], candidates, by_role["aside"], root)


def _with_held_out(folders: Folders, split: str, candidates: list[str], others: list[str], root: Path) -> Arrangement:
    """The split to train on with the first of the candidates that can be held out beside it."""
    train, aside = _unwrapped(folders, split, in_split=True)
    classes = _classes(folders, train, root)
    left = [*aside, *((folder, ANNOTATIONS_UNUSED) for folder in others)]
    held_out = None
    for candidate in candidates:
        if held_out is not None:
            left.append((candidate, f"{shown(held_out)} is held out"))
        elif (held_out := _held_out(folders, train, split, classes, candidate, root)) is None:
            left.append((candidate, f"no classes as in {shown(split)}"))
        elif held_out != candidate:
            left += [(folder, _why_beside(folder, split)) for folder in _siblings(folders, held_out, candidate)]
    return Arrangement(train, held_out, classes, tuple(left))


def _held_out(folders: Folders, train: str, split: str, classes: tuple[str, ...], candidate: str, root: Path) -> str | None:
    """The folder to hold out of a split; None if its pictures have no classes, and those to train on have.

    Raises:
        DataError: If it has other classes.
    """
    same = f"{candidate}{train.removeprefix(split)}"
    if train != split and any(name.startswith(same) for name in folders.filled):
        base = same
    else:
        base, _ = _unwrapped(folders, candidate, in_split=True, classes=classes)
    found = [name_of(folder) for folder in folders.below(base)]
    if not classes:
        if len(found) > 1 and train != split:
            _refuse_classes(root, split, candidate, sorted({*found} - {name_of(train)}))
        return base
    if not found:
        return None
    if other := sorted({*found} - {*classes}):
        _refuse_classes(root, split, candidate, other)
    return base


def _why_beside(folder: str, split: str) -> str:
    return ANNOTATIONS_UNUSED if _role(folder) == "aside" else f"no such folder in {shown(split)}"


def _siblings(folders: Folders, held_out: str, candidate: str) -> list[str]:
    parent = held_out.rstrip("/").rpartition("/")[0] + "/"
    return [folder for folder in folders.below(parent) if folder != held_out] if parent.startswith(candidate) else []


# ---------------------------------------------------------------------------------------------------------------- classes


def _classes(folders: Folders, base: str, root: Path) -> tuple[str, ...]:
    """Names of the class folders in a folder; none if there is but one, which tells nothing apart.

    Raises:
        DataError: If one has no pictures.
    """
    found = folders.below(base)
    empty = [folder for folder in folders.bare(base) if _role(folder) != "aside"]
    if found and empty:
        _refuse_empty(root, found, empty)
    return tuple(name_of(folder) for folder in found) if len(found) > 1 else ()


def _refuse_empty(root: Path, found: list[str], empty: list[str]) -> NoReturn:
    alone = f", or name the one that has some: --data {_path(root, found[0])}" if len(found) == 1 else ""
    raise DataError(
        f"The folder {root} has {counted(len(empty), 'class folder')} without pictures, of {len(found) + len(empty):,}: "
        f"{_listed(empty)}.",
        f"Put some into them, or remove them{alone}.",
    )


def _refuse_splits_in_classes(folders: Folders, base: str, root: Path) -> None:
    for folder in folders.below(base):
        if _is_split(folders.below(folder)):
            raise DataError(
                f"The folder {shown(folder)} in {root} has splits of its own, {_listed(folders.below(folder))}, whose pictures "
                "would all be trained on.",
                f"Put the splits above the classes (train/{name_of(folder)}/ ...), name one folder such as --data "
                f"{_path(root, folder)}, or take all that lies in a folder for one class: --set data.splits=none",
            )


def _refuse_split_among_classes(folders: Folders, base: str, root: Path, trains: list[str], tests: list[str]) -> None:
    """Refuse a folder plainly named as a split beside others; trains are classes too, but where only theirs has classes in it."""
    inner = {folder: len(folders.below(folder)) for folder in folders.below(base)}
    whole = [folder for folder in trains if not _rest(folder) and inner[folder] > 1 and sum(inner.values()) == inner[folder]]
    if found := [*tests, *whole]:
        do = "" if whole else "Put what is to be trained on into a folder train beside it"
        _refuse(root, base, found, f"{_listed([folder for folder in inner if folder not in found])} beside it is none", do)


def _refuse_splits_by_other_names(folders: Folders, base: str, root: Path) -> None:
    """Refuse folders that hold the same folders: splits, whatever they are called and in whatever language."""
    siblings = [folder for folder in folders.below(base) if not _YEAR.fullmatch(name_of(folder))]  # of which each has its months
    inner = {folder: _class_names(folders, folder) for folder in siblings} if len(siblings) <= MOST_SPLITS else {}
    for one, other in combinations(inner, 2):
        shared = inner[one] & inner[other]
        if len(shared) > 1 and 2 * len(shared) >= min(len(inner[one]), len(inner[other])):
            alike = [folder for folder in inner if shared <= inner[folder]]
            train = next((folder for folder in alike if _role(folder) == "train"), one)
            raise DataError(
                f"The folders {_listed(alike)} in {root} hold folders of the same names, {_listed(sorted(shared))}, as splits of "
                "one set do, and the pictures of all of them would be trained on.",
                "Rename one of them train and another test; or name the one to train on, such as --data "
                f"{_path(root, train)}; or, if they are classes: --set data.splits=none",
            )


def _class_names(folders: Folders, folder: str) -> frozenset[str]:
    """Names of what may be class folders in a folder, or in the only one in it."""
    base, _ = _unwrapped(folders, folder, in_split=True)
    return frozenset(name_of(inner) for inner in folders.below(base) if _role(inner) != "aside" and not _is_images(inner))


# --------------------------------------------------------------------------------------------------------------- refusals


def _listed(found: Sequence[str]) -> str:
    return first_few([shown(folder) for folder in found])


def _path(root: Path, folder: str) -> str:
    return shlex.quote(printable(str(root / folder)))


def _refuse(root: Path, base: str, found: list[str], why: str, do: str = "") -> NoReturn:
    one = next((folder for folder in found if _role(folder) == "train"), found[0])
    looks = f"folders {_listed(found)} look like splits" if len(found) > 1 else f"folder {_listed(found)} looks like a split"
    raise DataError(
        f"The {looks} of {root / shown(base.rstrip('/'))}, but {why}.",
        f"{do or f'Name the one to train on, such as --data {_path(root, one)}'}; or, if they are classes: --set data.splits=none",
    )


def _refuse_classes(root: Path, split: str, candidate: str, other: list[str]) -> NoReturn:
    raise DataError(
        f"{shown(candidate)} in {root} has classes that {shown(split)} has not: {_listed(other)}.",
        f"Make them equal, or name the folder to train on, a share of which is then held out: --data {_path(root, split)}",
    )


# ---------------------------------------------------------------------------------------------------------- earlier versions


def _arrange_as_before(folders: Folders, root: Path) -> Arrangement:
    """What earlier versions took the folders for, whose runs go on with the pictures that they were begun with."""
    top = {f"{folder.partition('/')[0]}/" for folder in folders.every}
    held_out = next((f"{name}/" for name in _OLD_HELD_OUT if top == {"train/", f"{name}/"}), None)
    bases = ("",) if held_out is None else ("train/", held_out)
    found = [folder for base in bases for folder in folders.below(base)]
    empty = [folder for base in bases for folder in folders.bare(base)]
    if found and empty:
        _refuse_empty(root, found, empty)
    classes = tuple(sorted({name_of(folder) for folder in found}))
    return Arrangement(bases[0], held_out, classes)
