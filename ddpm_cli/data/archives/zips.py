"""List the pictures in a zip archive and read one of them at any place, with bounds on what a stranger's file may ask for."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from pathlib import Path

from ddpm_cli.core.io.files import UnreadableError, open_descriptor, read_at
from ddpm_cli.data.archives.contents import (
    MOST_PICTURE_BYTES,
    OUTSIDE,
    Contents,
    plain_name,
    require_modest,
)
from ddpm_cli.data.placing.tables import is_too_large, kind_of, text_of

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
ENCRYPTED = 1
LOCAL_HEADER = struct.Struct("<4s5H3L2H")
LINK_MODE = 0o120000
SLACK = 1 << 16
"""Bytes by which packing may enlarge a picture."""

ERRORS = (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, struct.error, ValueError, OverflowError, EOFError)


def list_zip(path: Path, *, wants_json: bool = False) -> Contents:
    """List what is in a zip archive by its directory; no picture is read.

    Args:
        path: The archive.
        wants_json: As `Contents` has it.
    Raises:
        UnreadableError: If it is cut off, damaged, encrypted, or its members overlap or unpack to too much.
        OSError: If it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except ERRORS as error:
        raise UnreadableError(
            f"is cut off or damaged, or no zip archive: {str(error).rstrip('.') or type(error).__name__}"
        ) from error
    size = path.stat().st_size
    _require_apart(entries, size)
    require_modest(sum(entry.file_size for entry in entries), size)
    found = Contents(wants_json=wants_json)
    descriptor = open_descriptor(path, os.O_RDONLY, follow=True)
    try:
        for entry in entries:
            _add(found, descriptor, entry)
    finally:
        os.close(descriptor)
    return found.without_twins()


def _add(found: Contents, descriptor: int, entry: zipfile.ZipInfo) -> None:
    try:
        name = plain_name(entry.filename)
    except UnreadableError as error:
        found.leave_out(str(error) or OUTSIDE)
        return
    if name is None:
        return
    if entry.is_dir():
        found.folders.append(f"{name}/")
        return
    if (entry.external_attr >> 16) & 0o170000 == LINK_MODE:
        found.leave_out("links")
        return
    if entry.flag_bits & ENCRYPTED:
        raise UnreadableError(f"is protected by a password: {entry.filename} is encrypted")
    kind = kind_of(name, wants_json=found.wants_json)
    facts = [entry.compress_size, entry.compress_type, entry.CRC]
    if kind == "picture":
        found.add(name, entry.file_size, entry.header_offset, facts)
    elif kind == "other" or is_too_large(kind, name, entry.file_size):
        found.add_other(name)
    else:
        (found.tables if kind == "table" else found.marks)[name] = text_of(
            read_member(descriptor, entry.file_size, entry.header_offset, facts)
        )


def _require_apart(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse members that share bytes, by which a small file unpacks to any size."""
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise UnreadableError(f"is damaged: {entry.filename} begins within another member")
        end = entry.header_offset + LOCAL_HEADER.size + entry.compress_size
        if end > size:
            raise UnreadableError(f"is cut off or damaged: {entry.filename} ends behind its end")


def read_member(descriptor: int, size: int, place: int, facts: list[int]) -> bytes:
    """Read one member, wherever it lies.

    Args:
        descriptor: Of the archive, open for reading; several threads may use it.
        size: Bytes, unpacked.
        place: Of its header.
        facts: Packed size, method and CRC-32.
    Raises:
        UnreadableError: If it is damaged, too large, or packed in a way that is not read.
        OSError: If the disk fails.
    """
    packed_size, method, crc = facts
    if method not in (STORED, DEFLATED):
        raise UnreadableError(f"is packed by method {method} of zip; only stored and deflated ones are read")
    if size > MOST_PICTURE_BYTES or packed_size > MOST_PICTURE_BYTES + SLACK:
        raise UnreadableError(f"is of {size:,} bytes, more than the {MOST_PICTURE_BYTES:,} that the largest picture takes")
    header = read_exactly(descriptor, LOCAL_HEADER.size, place)
    magic, *_, name_length, extra_length = LOCAL_HEADER.unpack(header)
    if magic != b"PK\x03\x04":
        raise UnreadableError("is damaged: its header is not where the archive says")
    packed = read_exactly(descriptor, packed_size, place + LOCAL_HEADER.size + name_length + extra_length)
    content = packed if method == STORED else _inflated(packed, size)
    if len(content) != size or zlib.crc32(content) != crc:
        raise UnreadableError("is damaged: its bytes do not match its sum")
    return content


def _inflated(packed: bytes, size: int) -> bytes:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = unpacker.decompress(packed, size + 1)
    except zlib.error as error:
        raise UnreadableError(f"is damaged: {error}") from error
    return content


def read_exactly(descriptor: int, count: int, offset: int) -> bytes:
    """Read bytes of a file at a place.

    Raises:
        UnreadableError: If it ends before.
    """
    found = b""
    while len(found) < count and (data := read_at(descriptor, count - len(found), offset + len(found))):
        found = data if not found else found + data
    if len(found) < count:
        raise UnreadableError("is cut off")
    return found
