"""Hold what an archive says that it holds; the names in it are only names, to which nothing is ever written."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.data.pictures.decode import BYTES_PER_PIXEL, MOST_PIXELS, SPARE_BYTES
from ddpm_cli.data.sources.containers.found import MOST_PACKED, SMALL_BYTES
from ddpm_cli.data.sources.litter import LITTER

MOST_MEMBERS = 20_000_000
MOST_PICTURE_BYTES = SPARE_BYTES + BYTES_PER_PIXEL * MOST_PIXELS
"""Of a picture in an archive, as of the largest in a folder."""

ARRAYS = (".npz", ".npy")
LINK, DEVICE, SPARSE, OUTSIDE, TWICE = "links", "devices", "files with holes", "names that lead out of it", "names that come again"
_DRIVE = re.compile(r"[A-Za-z]:")
PLACING_VERSION = 2
"""Of what names and tables are taken for, which an archive that stays the same may stand for otherwise in another version."""


@dataclass
class Contents:
    """Hold what was found in the directory, or the headers, of one archive.

    Attributes:
        names: Of the pictures, relative, with "/" between folders.
        sizes: Bytes of each picture, unpacked.
        places: Where each begins: in a zip its header; in a tar its bytes, as they are unpacked; in a parquet file its row.
        facts: In a zip the packed size, the method and the sum of each.
        folders: Those that are members themselves, or hold a file that is none, each ending in a slash.
        tables: Text of the files that say the classes of pictures, by name.
        marks: Text of each sample's file of a class, by its name.
        others: How many files are neither.
        arrays: Names of some of those that hold arrays.
        left_out: How many members were left out, by reason.
        wants_json: Whether a sample's .json file is one of a class.
    """

    names: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    facts: list[list[int]] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    tables: dict[str, str] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)
    others: int = 0
    arrays: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    wants_json: bool = False

    def leave_out(self, reason: str) -> None:
        """Count a member that is left out."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def add(self, name: str, size: int, place: int, facts: list[int] | None = None) -> None:
        """Add a picture."""
        self.names.append(name)
        self.sizes.append(size)
        self.places.append(place)
        if facts is not None:
            self.facts.append(facts)

    def add_other(self, name: str) -> None:
        """Count a file that is no picture."""
        self.others += 1
        folder = name[: name.rfind("/") + 1]
        if folder and (not self.folders or self.folders[-1] != folder):
            self.folders.append(folder)
        if name.lower().endswith(ARRAYS) and len(self.arrays) < 3:
            self.arrays.append(name)

    def without_twins(self) -> Contents:
        """Keep, of pictures with the same name, the last, which stays when all are unpacked."""
        last = {name: number for number, name in enumerate(self.names)}
        if len(last) == len(self.names):
            return self
        kept = sorted(last.values())
        left_out = Counter(self.left_out) + Counter({TWICE: len(self.names) - len(kept)})
        return Contents(
            [self.names[number] for number in kept],
            [self.sizes[number] for number in kept],
            [self.places[number] for number in kept],
            [self.facts[number] for number in kept] if self.facts else [],
            self.folders,
            self.tables,
            self.marks,
            self.others,
            self.arrays,
            dict(left_out),
            self.wants_json,
        )


def plain_name(written: str) -> str | None:
    """Make a relative name of one in an archive; None of what a folder's look would not see: hidden files and systems' litter.

    Raises:
        UnreadableError: If it leads out of the archive.
    """
    name = written if "/" in written else written.replace("\\", "/")  # as some programs of Windows write it
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or _DRIVE.match(name) or "\0" in name:
        raise UnreadableError(OUTSIDE)
    if not parts or any(part.startswith(".") or part.lower() in LITTER for part in parts):
        return None
    return "/".join(parts)


def require_modest(unpacked: int, packed: int) -> None:
    """Refuse what grows far beyond what pictures do.

    Args:
        unpacked: Bytes of all that it would unpack to.
        packed: Bytes of the file.
    Raises:
        UnreadableError: Saying to how much.
    """
    if unpacked > max(SMALL_BYTES, MOST_PACKED * packed):
        raise UnreadableError(f"would unpack to more than {unpacked / 1e9:,.1f} GB, {unpacked // max(packed, 1):,} times its size")


def stem(path: Path) -> str:
    """Take an archive's name without its suffixes."""
    return re.sub(r"(?i)\.(zip|parquet|tar|tar\.gz|tgz|tar\.zst)$", "", path.name) or path.name


def facts_of(path: Path) -> str:
    """Tell what changes when a file is written to, though it is not read; see `folder.fingerprint`."""
    with contextlib.suppress(OSError):
        facts = path.stat()
        return f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"
    return f"{path} is gone"


def fingerprint(files: Sequence[Path], splits: str, label_column: str | None, image_column: str | None) -> str:
    """Sum what changes when archives are written to, or are asked for otherwise."""
    about = "\0".join([str(PLACING_VERSION), *map(facts_of, files), splits, label_column or "", image_column or ""])
    return hashlib.sha256(about.encode("utf-8", "surrogateescape")).hexdigest()
