"""Scans, byte by byte after their standards, by nothing that reads them; and a series of DICOM."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np

NIFTI_CODES = {"uint8": 2, "int16": 4, "int32": 8, "float32": 16, "float64": 64, "uint16": 512, "int64": 1024}
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT")
NAME = "Doe^Jane"


def write_nifti(
    path: Path,
    array: np.ndarray,
    affine: np.ndarray | None = None,
    *,
    slope: float = 0.0,
    inter: float = 0.0,
    cal: tuple[float, float] = (0.0, 0.0),
    dim: tuple[int, ...] | None = None,
) -> Path:
    """A NIfTI-1 file after nifti1.h: [X, Y, Z] or with times, Fortran order; packed if its name says so."""
    header = bytearray(348)
    shape = dim or array.shape
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<2h", header, 70, NIFTI_CODES[array.dtype.name], array.dtype.itemsize * 8)
    struct.pack_into("<8f", header, 76, 1, *[1] * 7)
    struct.pack_into("<3f", header, 108, 352, slope, inter)
    struct.pack_into("<2f", header, 124, cal[1], cal[0])
    if affine is not None:
        struct.pack_into("<h", header, 254, 1)
        struct.pack_into("<12f", header, 280, *affine[:3].ravel())
    header[148:156] = b"Doe^Jane"  # descrip, in which converters leave what nobody should see
    header[344:348] = b"n+1\0"
    content = bytes(header) + b"\0\0\0\0" + array.tobytes(order="F")
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path


def write_dicom(path: Path, pixels: np.ndarray, *more: tuple[int, int, bytes, Any], bits: int | None = None, **facts: Any) -> Path:
    """A DICOM file of explicit little-endian values (PS3.5, PS3.10): grey [H, W] or frames [N, H, W], or colours [H, W, 3]."""
    samples = 3 if pixels.ndim == 3 and pixels.shape[2] == 3 else 1
    height, width = pixels.shape[:2] if samples == 3 else pixels.shape[-2:]
    allocated = pixels.dtype.itemsize * 8
    stored = bits or allocated
    values = {
        (0x0008, 0x0016): (b"UI", "1.2.840.10008.5.1.4.1.1.2"),
        (0x0008, 0x0018): (b"UI", "1.2.3.4"),
        (0x0010, 0x0010): (b"PN", NAME),
        (0x0020, 0x000E): (b"UI", facts.get("series", "1.2.3")),
        (0x0028, 0x0002): (b"US", samples),
        (0x0028, 0x0004): (b"CS", facts.get("photometric", "RGB" if samples == 3 else "MONOCHROME2")),
        (0x0028, 0x0010): (b"US", facts.get("rows", height)),
        (0x0028, 0x0011): (b"US", width),
        (0x0028, 0x0100): (b"US", allocated),
        (0x0028, 0x0101): (b"US", stored),
        (0x0028, 0x0102): (b"US", stored - 1),
        (0x0028, 0x0103): (b"US", int(pixels.dtype.kind == "i")),
        (0x7FE0, 0x0010): (b"OW" if allocated > 8 else b"OB", pixels.tobytes()),
    }
    if samples == 3:
        values[0x0028, 0x0006] = (b"US", 0)
    elif pixels.ndim == 3:
        values[0x0028, 0x0008] = (b"IS", str(len(pixels)))
    if "number" in facts:
        values[0x0020, 0x0013] = (b"IS", str(facts["number"]))
    if "z" in facts:
        values[0x0020, 0x0032] = (b"DS", f"0\\0\\{facts['z']}")
        values[0x0020, 0x0037] = (b"DS", "1\\0\\0\\0\\1\\0")
    if "rescale" in facts:
        values[0x0028, 0x1053], values[0x0028, 0x1052] = ((b"DS", str(value)) for value in facts["rescale"])
    if "window" in facts:
        values[0x0028, 0x1050], values[0x0028, 0x1051] = ((b"DS", str(value)) for value in facts["window"])
    for group, element, kind, value in more:
        values[group, element] = (kind, value)
    syntax = element_of(0x0002, 0x0010, b"UI", facts.get("syntax", EXPLICIT_LITTLE))
    meta = element_of(0x0002, 0x0000, b"UL", struct.pack("<I", len(syntax))) + syntax
    body = b"".join(element_of(*tag, *values[tag]) for tag in sorted(values))
    path.write_bytes(bytes(128) + b"DICM" + meta + body)
    return path


def element_of(group: int, element: int, kind: bytes, value: Any) -> bytes:
    data = struct.pack("<H", value) if isinstance(value, int) else value.encode() if isinstance(value, str) else value
    data += (b"\0" if kind in (b"UI", b"OB") else b" ") * (len(data) % 2)
    length = struct.pack("<HI", 0, len(data)) if kind in LONG else struct.pack("<H", len(data))
    return struct.pack("<HH", group, element) + kind + length + data


def write_tiff(path: Path, *pages: np.ndarray, photometric: int = 1, levels: tuple[int, int] | None = None) -> Path:
    """A TIFF 6.0 file of unsigned pages [H, W] or, interleaved, [H, W, C]; `levels` are MinSampleValue and MaxSampleValue."""
    content = bytearray(b"II*\0\0\0\0\0")
    link = 4
    for page in pages:
        height, width = page.shape[:2]
        channels = page.shape[2] if page.ndim == 3 else 1
        bits = page.dtype.itemsize * 8
        strip, content = len(content), content + page.tobytes()
        depths, content = len(content), content + struct.pack(f"<{channels}H", *[bits] * channels) + b"\0" * (channels % 2 * 2)
        entries = [
            (256, 3, 1, width),
            (257, 3, 1, height),
            (258, 3, channels, bits if channels == 1 else bits | bits << 16 if channels == 2 else depths),
            (259, 3, 1, 1),
            (262, 3, 1, photometric),
            (273, 4, 1, strip),
            (277, 3, 1, channels),
            (278, 3, 1, height),
            (279, 4, 1, page.nbytes),
            *([(280, 3, 1, levels[0]), (281, 3, 1, levels[1])] if levels else []),
        ]
        content += b"\0" * (len(content) % 2)
        struct.pack_into("<I", content, link, len(content))
        content += struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        link, content = len(content), content + b"\0\0\0\0"
    path.write_bytes(bytes(content))
    return path
