"""Read the IDX format of the MNIST family: big-endian sizes, then the values.

Bytes 0 and 1 are zero, byte 2 is the type of the values (8 is uint8, the only one these data sets use), byte 3 the number of
dimensions; then each size as a 32-bit integer, then the values in C order (LeCun et al., the MNIST database).
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
UINT8 = 8
MAX_DIMENSIONS = 4
CHUNK = 1 << 20
REPLACE = "Replace it with an undamaged copy."


def read_bounded(path: Path, max_bytes: int) -> bytearray:
    """Read a file, unpacked if it is gzip, of at most `max_bytes` bytes.

    Memory grows with what the file really holds, so neither a size that it claims nor a gzip bomb can exhaust it.

    Args:
        path: A plain or gzip file; told apart by its first bytes, not by its name.
        max_bytes: Most bytes that the unpacked content may have.
    Raises:
        DataError: If the file cannot be read, is damaged or too long.
    """
    try:
        with path.open("rb") as file:
            is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            file.seek(0)
            content = _read_up_to(gzip.GzipFile(fileobj=file) if is_gzip else file, max_bytes + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file: {error}.", REPLACE) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.", "Check the file and its permissions.") from error
    if len(content) > max_bytes:
        raise DataError(f"{path} holds more than the {max_bytes:,} bytes expected.", REPLACE)
    return content


def _read_up_to(stream: BinaryIO | gzip.GzipFile, limit: int) -> bytearray:
    content = bytearray()
    while chunk := stream.read(min(CHUNK, limit - len(content))):
        content += chunk
    return content


def parse_idx(content: bytearray, path: Path) -> NDArray[np.uint8]:
    """View the content of an IDX file as an array, without copying it.

    Args:
        content: The whole unpacked file.
        path: Where it came from, for messages.
    Returns:
        The values, uint8, shaped as the file says.
    Raises:
        DataError: If it is not an IDX file of bytes, or longer or shorter than its sizes say.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UINT8 or not 1 <= content[3] <= MAX_DIMENSIONS:
        raise DataError(f"{path} is no IDX file of bytes: it starts with {content[:4].hex(' ') or 'nothing'}.", REPLACE)
    header = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4))
    expected = header + math.prod(shape)
    if len(content) != expected:
        problem = "truncated" if len(content) < expected else "too long"
        size = "x".join(str(n) for n in shape)
        raise DataError(f"{path} is {problem}: {size} values need {expected:,} bytes, it has {len(content):,}.", REPLACE)
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
