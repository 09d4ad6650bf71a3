"""Pictures of more than 8 bits, written from the formats' own documents and by no library that reads them."""

from __future__ import annotations

import struct
import zlib

import numpy as np

COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Of PNG, by the number of channels."""


def png_16(values: np.ndarray, significant: int = 0) -> bytes:
    """A PNG of 16 bits, [H, W] or [H, W, C], grey, colour or either with alpha; with the chunk sBIT if bits are given."""
    values = values.reshape(*values.shape[:2], -1)
    height, width, channels = values.shape

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">2I5B", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    said = chunk(b"sBIT", bytes([significant] * channels)) if significant else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + said + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values: np.ndarray, *, said: tuple[int, int] | None = None, white_is_zero: bool = False) -> bytes:
    """A TIFF of one strip, little-endian, [H, W] or [H, W, 3], of the array's numbers (TIFF 6.0, sections 2, 3, 8 and 19)."""
    values = values.reshape(*values.shape[:2], -1)
    height, width, channels = values.shape
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    bits, form = 8 * values.dtype.itemsize, {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    entries = {
        256: [width],
        257: [height],
        258: [bits] * channels,
        259: [1],
        262: [2 if channels == 3 else int(not white_is_zero)],
        273: [8],
        277: [channels],
        278: [height],
        279: [len(data)],
        339: [form] * channels,
    }
    if said is not None:
        entries |= {280: [said[0]], 281: [said[1]]}
    table, beside = b"", b""
    start = 8 + len(data)
    after = start + 2 + 12 * len(entries) + 4
    for tag, numbers in sorted(entries.items()):
        long = tag in (256, 257, 273, 278, 279)
        packed = struct.pack(f"<{len(numbers)}{'I' if long else 'H'}", *numbers)
        if len(packed) > 4:
            table += struct.pack("<HHII", tag, 4 if long else 3, len(numbers), after + len(beside))
            beside += packed
        else:
            table += struct.pack("<HHI", tag, 4 if long else 3, len(numbers)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", start) + data + struct.pack("<H", len(entries)) + table + b"\0" * 4 + beside


def ppm_16(values: np.ndarray, white: int) -> bytes:
    """A binary PPM, [H, W, 3], or PGM, [H, W], of values up to `white`."""
    kind = b"P6" if values.ndim == 3 else b"P5"
    return kind + f"\n{values.shape[1]} {values.shape[0]}\n{white}\n".encode() + values.astype(">u2").tobytes()
