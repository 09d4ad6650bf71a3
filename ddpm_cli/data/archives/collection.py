"""Make a collection of pictures of archives: what is in them, which class each picture is of, what is held out."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from ddpm_cli.core.io.downloads import cache_directory
from ddpm_cli.core.io.files import UnreadableError, atomic_write, open_descriptor, read_bytes
from ddpm_cli.core.io.paths import shell_word
from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.data.archives.contents import MOST_PICTURE_BYTES, Contents, facts_of, fingerprint, stem
from ddpm_cli.data.archives.parquet import open_parquet
from ddpm_cli.data.archives.shards import shards
from ddpm_cli.data.archives.tars import is_packed, list_tar, stream_tar
from ddpm_cli.data.archives.zips import list_zip, read_exactly, read_member
from ddpm_cli.data.pictures.decode import require_in_proportion
from ddpm_cli.data.pictures.settings import Pictures, shown
from ddpm_cli.data.placing.place import Listing, in_order_of_a_walk, place
from ddpm_cli.data.placing.splits import Splits
from ddpm_cli.data.sources.folder import UNSEEN_BYTES
from ddpm_cli.errors import DataError, DdpmError

ZIP, PARQUET = ".zip", ".parquet"
LISTING_VERSION = 2
MOST_OPEN = 200
MOST_LISTING_BYTES = 1 << 32
UNPACK = "Copy or download it again; or unpack it, and name the folder."


@dataclass(eq=False)
class Member:
    """Say where a picture lies.

    Attributes:
        name: In its archive, without the folder that was packed; after its shard, if there are several.
        file: Number of its archive.
        row: Number in the lists of that archive's contents.
    """

    name: str
    file: int
    row: int


def open_archive(path: Path, splits: Splits = "auto", label_column: str | None = None, image_column: str | None = None) -> Pictures:
    """Find the pictures in an archive, or in numbered shards of one; nothing is unpacked, and no picture is decoded.

    Its names count as those of a folder that it was made from: classes are folders, and folders named as splits are told from
    them, see `splits.arrange`. A dataset.json, WebDataset's `.cls` files or a column of a metadata table say otherwise.

    Args:
        path: A .zip, .tar, .tar.gz, .tgz, .tar.zst or .parquet file; a pattern such as `shard-{000..010}.tar`; a folder of shards.
        splits: How folders are told from classes.
        label_column: Of the classes, in metadata.csv, metadata.jsonl, a sample's .json, or parquet; None for those that are found.
        image_column: Of the pictures, in parquet; of other archives their extension, see `samples.pictures_of_samples`.
    Raises:
        DataError: If it is missing, damaged, encrypted, or makes no data set.
        RequestError: If a package that reads it is missing.
    """
    files = shards(path)
    if files[0].name.lower().endswith(PARQUET):
        if len(files) > 1:
            raise DataError(
                f"{path} stands for {len(files):,} parquet files, of which one can be read at a time.",
                "Name one file, or write one of all: pyarrow.dataset.dataset(FILES).to_table() and pyarrow.parquet.write_table.",
            )
        return open_parquet(files[0], splits, label_column, image_column)
    listed = [_contents(file, wants_json=label_column is not None) for file in files]
    members, listing = _members(files, listed)
    if not members:
        _refuse_empty(path, listed)
    return _pictures(path, files, listed, members, listing, splits, label_column, image_column)


# ------------------------------------------------------------------------------------------------------------- listing


def _contents(path: Path, *, wants_json: bool) -> Contents:
    """What is in an archive, as an earlier start found it, if the file is the same."""
    about = f"{LISTING_VERSION} {int(wants_json)} {facts_of(path)}"
    kept = (
        cache_directory() / "images" / "listings" / f"{hashlib.sha256(about.encode('utf-8', 'surrogateescape')).hexdigest()}.json"
    )
    with contextlib.suppress(OSError, UnreadableError, ValueError, TypeError):
        seal, _, text = read_bytes(kept, MOST_LISTING_BYTES).partition(b"\n")
        if seal.decode() == hashlib.sha256(text).hexdigest():
            return Contents(**json.loads(text))
    try:
        found = (list_zip if path.name.lower().endswith(ZIP) else list_tar)(path, wants_json=wants_json)
    except UnreadableError as error:
        raise DataError(f"The archive {path} {error}.", UNPACK) from error
    except OSError as error:
        raise DataError(f"The archive {path} cannot be read: {error.strerror or error}.", "Check the disk.") from error
    text = json.dumps(asdict(found)).encode()
    with contextlib.suppress(OSError, DdpmError):  # it is only to save time
        kept.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(kept, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
    return found


def _refuse_empty(path: Path, listed: list[Contents]) -> NoReturn:
    arrays = [name for contents in listed for name in contents.arrays]
    others = sum(contents.others for contents in listed)
    left_out = ", ".join(_left_out(listed))
    if arrays:
        raise DataError(
            f"There are no pictures in the archive {path}, but arrays: {first_few([shown(name) for name in arrays])}.",
            "Unpack it, and name the .npz or .npy file: --data FILE.npz",
        )
    only = f", only {counted(others, 'file')} of other kinds" if others else ""
    raise DataError(
        f"There are no pictures in the archive {path}{only}{f'; left out: {left_out}' if left_out else ''}.",
        "Pictures are files named .png, .jpg, .webp, .gif, .bmp, .tif ...",
    )


def _left_out(listed: list[Contents]) -> list[str]:
    counts = sum((Counter(contents.left_out) for contents in listed), Counter[str]())
    return [f"{count:,} {reason}" for reason, count in counts.most_common()]


# ------------------------------------------------------------------------------------------------------------- members


def _members(files: list[Path], listed: list[Contents]) -> tuple[list[Member], Listing]:
    """The pictures of all files in the order of a walk, and all that is known by its name."""
    top = _top(files, listed)
    members, folders, tables, marks = list[Member](), set[str](), dict[str, str](), dict[str, str]()
    for number, contents in enumerate(listed):
        shard = f"{stem(files[number])}/" if len(files) > 1 else ""
        members += [Member(f"{shard}{name[len(top) :]}", number, row) for row, name in enumerate(contents.names)]
        folders |= {folder[len(top) :] for folder in contents.folders} - {""}
        for all_texts, texts in ((tables, contents.tables), (marks, contents.marks)):
            all_texts |= {f"{shard}{name[len(top) :]}": text for name, text in texts.items()}
            folders |= {name[len(top) : name.rfind("/") + 1] for name in texts} - {""}
    members = [members[place] for place in in_order_of_a_walk([member.name for member in members])]
    are_tars = not files[0].name.lower().endswith(ZIP)
    names = [member.name for member in members]
    return members, Listing(names, folders, tables, marks, sharded=len(files) > 1, may_be_samples=are_tars)


def _top(files: list[Path], listed: list[Contents]) -> str:
    """The folder that all lies in and that the archive is called after, or that all shards have; empty if there is none.

    Then the folder was packed from beside it, and not what is in it; one of another name may be all that there is in a folder.
    """
    names = [name for one in listed for name in (*one.names, *one.tables, *one.marks, *one.folders)]
    first = f"{names[0].partition('/')[0]}/" if names else ""
    is_packed_folder = len(files) > 1 or first == f"{stem(files[0])}/"
    return first if is_packed_folder and all(name.startswith(first) for name in names) else ""


def _pictures(
    path: Path,
    files: list[Path],
    listed: list[Contents],
    members: list[Member],
    listing: Listing,
    splits: Splits,
    label_column: str | None,
    image_column: str | None,
) -> Pictures:
    source = f"the archive {path}" if len(files) == 1 else f"the {counted(len(files), 'archive')} {path}"
    notices = [f"Left out of {source}: {', '.join(reasons)}."] if (reasons := _left_out(listed)) else []
    found = place(path, listing, source, splits, label_column, image_column, archive=True)
    members = [members[number] for number in found.used]

    def of_now() -> str:
        return fingerprint(files, splits, label_column, image_column)

    return Pictures(
        name=stem(path),
        source=source + (f" ({found.layout})" if found.layout else ""),
        names=[member.name for member in members],
        labels=found.labels,
        class_names=found.class_names,
        held_out=found.held_out,
        fingerprint=of_now(),
        read=_Reader(files, listed, members),
        check=f"ddpm data check {shell_word(path)}",
        fingerprint_now=of_now,
        notices=(*found.notices, *notices),
        ignored_files=sum(one.others for one in listed),
        layout=found.layout,
        in_order=partial(_in_order, files, listed, members) if any(map(is_packed, files)) else None,
    )


# ------------------------------------------------------------------------------------------------------------- reading


class _Reader:
    """Read any picture of archives that need not be unpacked from their start, for several threads at once."""

    def __init__(self, files: list[Path], listed: list[Contents], members: list[Member]) -> None:
        self._files, self._listed, self._members = files, listed, members
        self._kept: dict[int, int] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._kept)

    def __call__(self, number: int) -> bytes:
        member = self._members[number]
        contents, path = self._listed[member.file], self._files[member.file]
        size, place = contents.sizes[member.row], contents.places[member.row]
        if is_packed(path):
            return next(content for _, content in stream_tar(path, [place], [size], [0]))
        if size > MOST_PICTURE_BYTES:
            raise UnreadableError(f"is of {size:,} bytes, more than the {MOST_PICTURE_BYTES:,} that the largest picture takes")
        with self._opened(member.file) as descriptor:
            if contents.facts:
                content = read_member(descriptor, size, place, contents.facts[member.row])
            else:
                content = read_exactly(descriptor, size, place)
        if size > UNSEEN_BYTES:
            require_in_proportion(io.BytesIO(content), size)
        return content

    @contextlib.contextmanager
    def _opened(self, file: int) -> Iterator[int]:
        """The descriptor of an archive, kept open for the next picture unless there are very many archives."""
        with self._lock:
            if file not in self._kept and len(self._kept) < MOST_OPEN:
                self._kept[file] = open_descriptor(self._files[file], os.O_RDONLY, follow=True)
        if file in self._kept:
            yield self._kept[file]
            return
        descriptor = open_descriptor(self._files[file], os.O_RDONLY, follow=True)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _close(descriptors: dict[int, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)


def _in_order(files: list[Path], listed: list[Contents], members: list[Member]) -> Iterator[tuple[int, bytes]]:
    """All pictures, as they lie in the archives."""
    by_file: dict[int, list[int]] = {}
    for number, member in enumerate(members):
        by_file.setdefault(member.file, []).append(number)
    for file, numbers in sorted(by_file.items()):
        contents = listed[file]
        numbers.sort(key=lambda number: contents.places[members[number].row])
        places = [contents.places[members[number].row] for number in numbers]
        sizes = [contents.sizes[members[number].row] for number in numbers]
        try:
            for place, content in stream_tar(files[file], places, sizes, range(len(numbers))):
                yield numbers[place], content
        except UnreadableError as error:
            raise DataError(f"The archive {files[file]} {error}.", UNPACK) from error
        except OSError as error:
            raise DataError(f"The archive {files[file]} cannot be read: {error.strerror or error}.", "Check the disk.") from error
