"""The images that a run goes on with keep its scale: those that were there before stay value for value what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deep_files import png_16, tiff
from PIL import Image

from ddpm_cli.build.data import build_dataset, in_scale_of_run
from ddpm_cli.config.schema.data import ArraysData, FolderData
from ddpm_cli.data.images import pixel_sums
from ddpm_cli.data.scale import OF_MIXED_DEPTHS, USUAL, Scale
from ddpm_cli.errors import DataError


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))


def ramp(low: float, high: float, kind: Any) -> np.ndarray:
    return np.linspace(low, high, 64).reshape(8, 8).astype(kind)


def save(path: Path, values: np.ndarray) -> None:
    """A picture of the array's numbers."""
    path.parent.mkdir(exist_ok=True)
    if values.dtype == np.uint8:
        Image.fromarray(values).save(path.with_suffix(".png"))
    elif values.dtype == np.uint16:
        path.with_suffix(".png").write_bytes(png_16(values))
    else:
        path.with_suffix(".tif").write_bytes(tiff(values))


PICTURES: dict[str, tuple[np.ndarray, Scale, np.ndarray]] = {
    "masks and a photograph": (ramp(0, 1, np.uint8), Scale(0, 1, "uint8"), ramp(0, 255, np.uint8)),
    "photographs and a deep scan": (ramp(0, 255, np.uint8), USUAL, ramp(0, 65535, np.uint16)),
    "photographs and a dark deep scan": (ramp(0, 255, np.uint8), USUAL, ramp(0, 1200, np.uint16)),
    "scans and a brighter one": (ramp(0, 1200, np.uint16), Scale(0, 1200, "uint16"), ramp(0, 3000, np.uint16)),
    "floats and larger ones": (ramp(-1, 3, np.float32), Scale(-1, 3, "float32"), ramp(-2, 9, np.float32)),
}


DEEPER = ("photographs and a deep scan", "photographs and a dark deep scan")
"""As pictures, 255 is white in one and next to nothing in the other; in one array all have one unit."""


@pytest.mark.parametrize("case", DEEPER)
def test_deeper_pictures_are_not_cut_to_those_of_eight_bits(case: str, tmp_path: Path) -> None:
    old, scale, new = PICTURES[case]
    save(tmp_path / "in" / "old", old)
    save(tmp_path / "in" / "new", new)
    config = FolderData(root=tmp_path / "in", held_out=0)
    if case == "photographs and a dark deep scan":
        with pytest.raises(DataError, match="no scale in common"):
            in_scale_of_run(config, scale)
        return
    same, dataset = in_scale_of_run(config, scale)
    assert same == config
    assert dataset.scale != scale  # which a resume refuses


@pytest.mark.parametrize(
    ("case", "as_arrays"), [(case, arrays) for case in PICTURES for arrays in (False, True) if arrays or case not in DEEPER]
)
def test_what_is_added_is_cut_and_the_others_stay(case: str, as_arrays: bool, tmp_path: Path) -> None:
    old, scale, new = PICTURES[case]
    config: ArraysData | FolderData = FolderData(root=tmp_path / "in", held_out=0)
    if as_arrays:
        config = ArraysData(path=tmp_path / "a.npz", held_out=0)
        np.savez(tmp_path / "a.npz", images=old[None])
    else:
        save(tmp_path / "in" / "old", old)
    before = build_dataset(config)
    assert before.scale == scale
    assert in_scale_of_run(config, scale)[0] == config
    if as_arrays:
        np.savez(tmp_path / "a.npz", images=np.stack([old, new]).astype(new.dtype))
    else:
        save(tmp_path / "in" / "new", new)
    pinned, dataset = in_scale_of_run(config, scale)
    assert pinned.model_dump()["range"] == (scale.low, scale.high)
    assert dataset.scale == scale
    assert np.isin(pixel_sums(before.train.images), pixel_sums(dataset.train.images)).all()
    outside = int(((new < scale.low) | (new > scale.high)).sum())
    assert any(f"{outside} values lie outside of" in notice for notice in dataset.notices)
    again = build_dataset(pinned)  # as evaluation finds it
    assert (again.scale, again.sha256) == (scale, dataset.sha256)


def test_pictures_of_fewer_bits_and_of_several_depths_keep_a_scale_of_their_own(tmp_path: Path) -> None:
    config = FolderData(root=tmp_path / "in", held_out=0)
    save(tmp_path / "in" / "shallow", ramp(0, 255, np.uint8))
    for scale in (Scale(0, 4095, "uint16"), OF_MIXED_DEPTHS):
        assert in_scale_of_run(config, scale)[1].scale == USUAL  # which a resume refuses
    save(tmp_path / "in" / "deep", ramp(0, 4095, np.uint16))
    with pytest.raises(DataError, match="no scale in common"):
        in_scale_of_run(config, Scale(0, 4095, "uint16"))


def test_a_range_that_was_given_and_data_without_one_are_left_alone(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a", ramp(0, 255, np.uint8))
    config = FolderData(root=tmp_path / "in", held_out=0, range=(0.0, 100.0))
    same, dataset = in_scale_of_run(config, USUAL)
    assert (same, dataset.scale) == (config, Scale(0, 100, "uint8"))
    with pytest.raises(DataError, match="no pictures"):
        in_scale_of_run(FolderData(root=tmp_path / "cache", held_out=0), USUAL)
