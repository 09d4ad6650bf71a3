"""Tell scans from other files by their names and first bytes, with nothing but the standard library."""

from __future__ import annotations

import mimetypes
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from ddpm_cli.core.io.files import UnreadableError, open_descriptor

Format = Literal["NIfTI", "DICOM", "TIFF"]
PREAMBLE, DICM = 128, b"DICM"
"""Bytes of a DICOM file that mean nothing, and what follows them (DICOM PS3.10, 7.1)."""

NIFTI_SUFFIXES, DICOM_SUFFIXES, TIFF_SUFFIXES = (".nii", ".nii.gz"), (".dcm", ".dicom", ".ima"), (".tif", ".tiff")
GLANCES = 1000
"""Files of a folder by which it is told what the folder holds."""
MOST_PAGES = 1_000_000
_TIFF_KINDS = {b"II*\0": ("<", 4), b"MM\0*": (">", 4), b"II+\0": ("<", 8), b"MM\0+": (">", 8)}
"""Byte order, and bytes of an offset, by the first four bytes; those with eight are BigTIFF."""


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open an ordinary file, following links, and tell its size.

    Raises:
        UnreadableError: If it is a pipe, device or folder.
        OSError: If it cannot be opened.
    """
    descriptor = open_descriptor(path, os.O_RDONLY, follow=True)
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise UnreadableError("is not an ordinary file")
        yield file, facts.st_size


def format_of(path: Path, *, pages: bool = True) -> Format | None:
    """Tell the format of a scan; None of any other file.

    Files of DICOM often have no suffix, or a number for one, so that of names that say nothing the first bytes are looked at.

    Args:
        path: The file.
        pages: Whether every TIFF counts, or else only one of several pages.
    """
    name = path.name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        return "NIfTI"
    if name.endswith(DICOM_SUFFIXES):
        return "DICOM"
    if name.endswith(TIFF_SUFFIXES):
        return "TIFF" if pages or has_pages(path) else None
    return "DICOM" if mimetypes.guess_type(name)[0] is None and _begins_as_dicom(path) else None


def _begins_as_dicom(path: Path) -> bool:
    try:
        with opened(path) as (file, _):
            return file.read(PREAMBLE + len(DICM))[PREAMBLE:] == DICM
    except (OSError, UnreadableError):
        return False


def has_pages(path: Path) -> bool:
    """Tell whether a file is a TIFF of more than one page."""
    try:
        with opened(path) as (file, size):
            pages = page_offsets(file, size)
            return next(pages, None) is not None and next(pages, None) is not None
    except (OSError, UnreadableError):
        return False


def page_offsets(file: BinaryIO, size: int) -> Iterator[int]:
    """Follow the chain of a TIFF's pages (TIFF 6.0, Section 2), which readers cut short without a word where it is broken.

    Args:
        file: At its start.
        size: Bytes in it.
    Yields:
        Where the directory of each page begins.
    Raises:
        UnreadableError: If it is no TIFF, or the chain leads out of the file or in a circle.
    """
    order, width = _TIFF_KINDS.get(file.read(4), ("", 0))
    if not order:
        raise UnreadableError("is no TIFF file")
    form, count_form, entry = (f"{order}I", f"{order}H", 12) if width == 4 else (f"{order}Q", f"{order}Q", 20)
    at, seen = 4 if width == 4 else 8, set[int]()
    while offset := _number(file, at, form):
        if offset in seen or len(seen) == MOST_PAGES:
            raise UnreadableError("has pages that lead in a circle")
        seen.add(offset)
        at = offset + struct.calcsize(count_form) + entry * _number(file, offset, count_form)
        if at + width > size:
            raise UnreadableError(f"is cut off within page {len(seen)}")
        yield offset


def _number(file: BinaryIO, at: int, form: str) -> int:
    try:
        file.seek(at)
        return int(struct.unpack(form, file.read(struct.calcsize(form)))[0])
    except (struct.error, OverflowError, OSError, ValueError):
        raise UnreadableError("is cut off, or its pages lie outside of it") from None


def holds_scans(folder: Path) -> bool:
    """Tell whether a folder holds more scans (NIfTI or DICOM) than pictures, by its first files and those of its subfolders."""
    scans = pictures = 0
    for path in _first_files(folder):
        if format_of(path, pages=False) in ("NIfTI", "DICOM"):
            scans += 1
        else:
            pictures += (mimetypes.guess_type(path.name)[0] or "").startswith("image/")
    return scans > pictures


def _first_files(folder: Path) -> Iterator[Path]:
    left = GLANCES
    for below, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith("."))[:left]:
            yield Path(below, name)
            left -= 1
        if left <= 0:
            return
