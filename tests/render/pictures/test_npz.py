"""Files of all samples in one array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ddpm_cli.render.pictures.npz as npz
from ddpm_cli.errors import OutputError

GREY = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 5), np.uint8)


def test_grey_is_repeated_and_labels_are_numbers(tmp_path: Path) -> None:
    with npz.npz_of(tmp_path / "a.npz", 6, (1, 4, 5), [0, 1, 2, 0, 1, 2]) as add:
        add(GREY[:4])
        add(GREY[4:])
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert found["arr_0"].shape == (6, 4, 5, 3)
        assert np.array_equal(found["arr_0"], GREY.transpose(0, 2, 3, 1).repeat(3, axis=3))
        assert (found["arr_1"].dtype, found["arr_1"].tolist()) == (np.int64, [0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("name", "count", "shape", "words"),
    [
        ("a.png", 1, (3, 4, 4), "arrays go into a file called .npz"),
        ("a.npz", 1, (4, 4, 4), "these images have 4 channels"),
        ("no/a.npz", 1, (3, 4, 4), "does not exist"),
        ("a.npz", 10**12, (3, 64, 64), "bytes of disk"),
    ],
)
def test_what_cannot_be_written_is_refused_before(
    tmp_path: Path, name: str, count: int, shape: tuple[int, int, int], words: str
) -> None:
    with pytest.raises(OutputError, match=words):
        npz.require_npz(tmp_path / name, count, shape)
