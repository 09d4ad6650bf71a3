#!/usr/bin/env bash
# Pillow 13.0.0: three kinds of TIFF open without a word as other values than the file holds or means.
#
# Expected: WhiteIsZero (PhotometricInterpretation 0) is turned round at every depth, or at none; signed 8-bit numbers keep their
# sign, as signed 16-bit ones do; unsigned 32-bit numbers stay above 0, or are refused.
# Seen: WhiteIsZero is turned round with 8 bits and not with 16; -100 with SampleFormat 2 and 8 bits is 156; 3,000,000,000 with
# SampleFormat 1 and 32 bits is below 0. A set of such scans trains inverted, wrapped, or both.
#
# Output seen:
#   WhiteIsZero, 8 bits, stored 10: L 245
#   WhiteIsZero, 16 bits, stored 10: I;16 10
#   signed 16 bits, stored -100: I -100
#   signed 8 bits, stored -100: L 156
#   unsigned 32 bits, stored 3000000000: I -1294967296
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - > seen <<'PYTHON'
import io
import struct

from PIL import Image


def tiff(value, code, photometric, sample_format):
    """One pixel, little-endian (TIFF 6.0, section 2)."""
    data = struct.pack(f"<{code}", value).ljust(8, b"\0")
    entries = [(256, 1), (257, 1), (258, 8 * struct.calcsize(code)), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 1)]
    entries += [(279, struct.calcsize(code)), (339, sample_format)]
    table = b"".join(struct.pack("<HHII", tag, 3, 1, number) for tag, number in entries)
    return b"II*\0" + struct.pack("<I", 16) + data + struct.pack("<H", len(entries)) + table + b"\0" * 4


def told(name, value, *about):
    image = Image.open(io.BytesIO(tiff(value, *about)))
    print(f"{name}, stored {value}: {image.mode} {image.getpixel((0, 0))}")


told("WhiteIsZero, 8 bits", 10, "B", 0, 1)
told("WhiteIsZero, 16 bits", 10, "H", 0, 1)
told("signed 16 bits", -100, "h", 1, 2)
told("signed 8 bits", -100, "b", 1, 2)
told("unsigned 32 bits", 3_000_000_000, "I", 1, 1)
PYTHON
cat seen
diff seen - <<'EXPECTED'
WhiteIsZero, 8 bits, stored 10: L 245
WhiteIsZero, 16 bits, stored 10: I;16 10
signed 16 bits, stored -100: I -100
signed 8 bits, stored -100: L 156
unsigned 32 bits, stored 3000000000: I -1294967296
EXPECTED
