from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from ddpm_cli.core.io.idx import parse_idx, read_bounded
from ddpm_cli.errors import DataError

PATH = Path("some-idx3-ubyte")


def idx_bytes(array: np.ndarray) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("shape", [(5,), (3, 4, 2), (2, 3, 4, 5), (0,)])
def test_round_trip(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(parse_idx(bytearray(idx_bytes(array)), PATH), array)


@pytest.mark.parametrize("name", ["plain", "packed.gz", "packed-without-suffix"])
def test_gzip_is_told_by_its_content(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"content" if name == "plain" else gzip.compress(b"content"))
    assert read_bounded(path, 7) == b"content"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "nothing"),
        (b"\0\0\x08", "no IDX file"),
        (b"\x89PNG" + bytes(20), "no IDX file"),
        (b"\0\0\x0d\x01" + bytes(4), "no IDX file"),  # float32 values
        (b"\0\0\x08\xff" + bytes(4), "no IDX file"),
        (b"\0\0\x08\x03\0\0", "truncated"),  # ends inside the sizes
        (b"\0\0\x08\x04" + b"\xff" * 16, "truncated"),  # claims 2^128 bytes
        (idx_bytes(np.zeros((2, 3, 3)))[:-1], "truncated"),
        (idx_bytes(np.zeros((2, 3, 3))) + b"\0", "too long"),
    ],
)
def test_malformed_files_are_refused_with_a_remedy(content: bytes, problem: str) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        parse_idx(bytearray(content), PATH)
    assert str(PATH) in caught.value.message
    assert caught.value.remedy


def test_gzip_bomb_is_stopped_at_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(64 << 20)))
    tracemalloc.start()
    with pytest.raises(DataError, match="more than"):
        read_bounded(path, 1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_large_bound_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(b"content")
    tracemalloc.start()
    read_bounded(path, 1 << 40)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize("damage", ["truncated", "flipped", "header"])
def test_damaged_gzip_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "damaged.gz"
    packed = bytearray(gzip.compress(np.random.default_rng(0).bytes(1000)))
    if damage == "truncated":
        del packed[500:]
    else:
        packed[-6 if damage == "flipped" else 2] ^= 0xFF
    path.write_bytes(packed)
    with pytest.raises(DataError, match=r"damaged\.gz is a damaged gzip file"):
        read_bounded(path, 10_000)


def test_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_bounded(tmp_path / "absent", 10)
