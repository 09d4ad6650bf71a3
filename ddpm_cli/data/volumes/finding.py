"""Find the scans in a folder, and tell which files make one series and which folders are classes."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.pictures.settings import printable, shown
from ddpm_cli.data.placing.splits import Folders, arrange
from ddpm_cli.data.sources.litter import LITTER
from ddpm_cli.data.volumes.dicom import Place, in_order, read_place
from ddpm_cli.data.volumes.recognise import Format, format_of
from ddpm_cli.errors import DataError

KINDS = "Scans are files named .nii, .nii.gz, .dcm or .tif, and files of DICOM by any name."


@dataclass(frozen=True)
class Scan:
    """Name the files of one volume.

    Attributes:
        name: Of its only or first file, relative to the folder.
        format: Of all its files.
        files: In the order of their slices.
        label: Number of its class.
        held_out: Whether its folder is one to hold out.
    """

    name: str
    format: Format
    files: tuple[Path, ...]
    label: int = 0
    held_out: bool = False


@dataclass
class Scans:
    """Hold what was found.

    Attributes:
        scans: At least one, by name.
        class_names: Of the folders that are classes; none where there are none.
        has_split: Whether there are folders to hold out.
        unreadable: Why files that should belong to a scan do not, by name.
        notices: What the user must know.
    """

    scans: list[Scan]
    class_names: tuple[str, ...] = ()
    has_split: bool = False
    unreadable: dict[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def find_scans(path: Path, looked: Callable[[int, int], None]) -> Scans:
    """Find the scans at a path.

    Each file of NIfTI or TIFF is a scan; files of DICOM are one if they lie in one folder and belong to one series. A single named
    file is read whatever its name.

    Args:
        path: A file or a folder.
        looked: Told of how many files of DICOM, of how many, the series is known.
    Raises:
        DataError: If there is nothing there, or nothing of a kind that is read.
    """
    if path.is_file():
        kind = format_of(path)
        if kind is None:
            raise DataError(f"The file {path} is no scan.", KINDS)
        return Scans([Scan(printable(path.name), kind, (path,))])
    if not path.is_dir():
        raise DataError(f"There is no file or folder {path}.", "Name a scan, or a folder of scans (data.path).")
    by_format, others = _walk(path)
    unreadable: dict[str, str] = {}
    scans = [Scan(name, kind, (path / name,)) for kind in ("NIfTI", "TIFF") for name in by_format[kind]]
    series, without = _series(path, by_format["DICOM"], unreadable, looked)
    scans = sorted([*scans, *series], key=lambda scan: scan.name)
    if not scans:
        raise _no_scans(path, unreadable, others + without)
    notices = (
        [f"Left {counted(others + without, 'file')} alone that {_are(others + without)} in {path}."] if others + without else []
    )
    return _arranged(path, scans, unreadable, notices)


def _are(count: int) -> str:
    return "is no scan" if count == 1 else "are no scans"


def _no_scans(root: Path, unreadable: dict[str, str], others: int) -> DataError:
    if unreadable:
        reasons = [f"{shown(name)} {reason}" for name, reason in unreadable.items()]
        return DataError(
            f"None of {counted(len(reasons), 'scan')} in {root} can be read: {first_few(reasons, 3)}.", "Check the files."
        )
    return DataError(f"There are no scans in the folder {root}, only {counted(others, 'file')} of other kinds.", KINDS)


def _walk(root: Path) -> tuple[dict[str, list[str]], int]:
    """The names of scans by format, and how many other files there are; links that lead out of the folder count as such."""
    found: dict[str, list[str]] = defaultdict(list)
    others, real_root = 0, root.resolve()
    for below, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name.lower() not in LITTER)
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(below, name)
            kind = format_of(path) if not path.is_symlink() or Path(os.path.realpath(path)).is_relative_to(real_root) else None
            if kind is None:
                others += 1
            else:
                found[kind].append(path.relative_to(root).as_posix())
    return found, others


def _series(root: Path, names: list[str], unreadable: dict[str, str], looked: Callable[[int, int], None]) -> tuple[list[Scan], int]:
    """The series that files of DICOM make, and how many of the files hold no picture; those that are damaged are noted."""
    series: dict[tuple[str, str], list[tuple[Path, Place]]] = defaultdict(list)
    without = 0
    for number, name in enumerate(names, 1):
        try:
            place = read_place(root / name)
            if place is None:
                without += 1
            else:
                series[os.path.dirname(name), place.series or name].append((root / name, place))
        except (UnreadableError, OSError) as error:
            unreadable[printable(name)] = reason_of(error)
        looked(number, len(names))
    ordered = [in_order(files) for files in series.values()]
    return [Scan(min(path.relative_to(root).as_posix() for path in files), "DICOM", tuple(files)) for files in ordered], without


def reason_of(error: UnreadableError | OSError) -> str:
    """Say why a file cannot be read, to follow its name."""
    return f"cannot be opened ({error.strerror or type(error).__name__})" if isinstance(error, OSError) else str(error)


def _arranged(root: Path, scans: list[Scan], unreadable: dict[str, str], notices: list[str]) -> Scans:
    """The scans with the classes that folders are, as those of pictures, unless each folder holds one scan and so names it."""
    filled = frozenset(f"{folder}/" if (folder := os.path.dirname(scan.name)) else "" for scan in scans)
    every = frozenset(above for folder in filled for above in _up_to(folder))
    found = arrange(Folders(filled, every), root, "old")
    bases = [base for base in (found.held_out, found.train) if base is not None]
    placed = [(scan, next(base for base in bases if scan.name.startswith(base))) for scan in scans]
    tops = [_top(scan.name, base) for scan, base in placed]
    counts = Counter((base, top) for (_, base), top in zip(placed, tops, strict=True) if top)
    names = found.classes if len(found.classes) > 1 and max(counts.values()) > 1 else ()
    if len(found.classes) > 1 and not names:
        notices.append(
            f"Each of the {len(found.classes):,} folders in {root} holds one scan, so that they are not taken for classes."
        )
    if names and (loose := [shown(scan.name) for scan, top in zip(scans, tops, strict=True) if not top]):
        notices.append(f"Left out {counted(len(loose), 'scan')} beside the class folders of {root}: {first_few(loose)}.")
    numbers = {name: number for number, name in enumerate(names)}
    kept = [
        Scan(printable(scan.name), scan.format, scan.files, numbers.get(top, 0), base == found.held_out)
        for (scan, base), top in zip(placed, tops, strict=True)
        if top or not names
    ]
    class_names = tuple(printable(name) for name in names)
    return Scans(kept, class_names, found.held_out is not None, unreadable, tuple(notices))


def _top(name: str, base: str) -> str:
    """The folder right below `base` in which a scan lies; empty if it lies in `base` itself."""
    top, slash, _ = name[len(base) :].partition("/")
    return top if slash else ""


def _up_to(folder: str) -> Iterator[str]:
    """A folder and all above it, but for the root."""
    while folder:
        yield folder
        parent = folder.rstrip("/").rpartition("/")[0]
        folder = f"{parent}/" if parent else ""
