"""The forward process on a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.schema.schedule import CosineSchedule, LinearSchedule
from ddpm_cli.data.sources.one_picture import read_reduced
from ddpm_cli.diffusion.forward import q_sample
from ddpm_cli.diffusion.forward_numpy import q_sample_numpy
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.errors import DataError
from ddpm_cli.render.pictures.forward_strip import save_forward_strip
from ddpm_cli.render.terminal.schedule import NamedSchedule


def named(config: LinearSchedule | CosineSchedule) -> NamedSchedule:
    return NamedSchedule(config, build_schedule(config))


def test_it_is_the_forward_process_of_training() -> None:
    random = np.random.default_rng(0)
    x_0, eps = random.uniform(-1, 1, (3, 4, 5)), random.standard_normal((3, 4, 5))
    schedule: NoiseSchedule = build_schedule(CosineSchedule())
    for t in (0, 500, 999):
        theirs = q_sample(torch.from_numpy(x_0)[None], torch.tensor([t]), torch.from_numpy(eps)[None], schedule)[0]
        np.testing.assert_allclose(q_sample_numpy(x_0, t, eps, schedule), theirs.numpy(), rtol=1e-12)


def columns(path: Path, side: int) -> np.ndarray:
    """The pictures of a strip's rows, [rows, 9, H, W, 3]; that they are where they are computed to be is part of the test."""
    with Image.open(path) as strip:
        pixels = np.asarray(strip.convert("RGB"))
    width, rows = (pixels.shape[1] - 6) / 9, round((pixels.shape[0] - 24) / (side + 24))
    lefts = [round(6 + x * width + (width - 6) / 2 - side / 2) for x in range(9)]
    return np.stack([np.stack([pixels[21 + y * (side + 24) :][:side, left : left + side] for left in lefts]) for y in range(rows)])


def test_the_picture_drowns_in_noise_sooner_under_the_linear_schedule(tmp_path: Path) -> None:
    grey = np.full((128, 128), 191, np.uint8)
    grey[32:96, 32:96] = 64
    Image.fromarray(grey).save(tmp_path / "square.png")
    save_forward_strip(tmp_path / "square.png", [named(LinearSchedule()), named(CosineSchedule())], tmp_path / "strip.png")
    found = columns(tmp_path / "strip.png", 128)
    assert found.shape == (2, 9, 128, 128, 3)
    for row in found:
        assert np.array_equal(row[0, ..., 0], grey)
        contrast = [float(np.corrcoef(grey.ravel(), picture[..., 0].ravel())[0, 1]) for picture in row]
        assert contrast == sorted(contrast, reverse=True) or abs(contrast[-1]) < 0.05
        assert contrast[1] > 0.99
        assert abs(contrast[-1]) < 0.05
    linear, cosine = (float(np.corrcoef(grey.ravel(), row[4, ..., 0].ravel())[0, 1]) for row in found)
    assert linear < 0.7 * cosine


def test_the_same_noise_each_time_and_small_pictures_are_enlarged(tmp_path: Path) -> None:
    Image.fromarray(np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)).save(tmp_path / "small.png")
    for name in ("one.png", "two.png"):
        save_forward_strip(tmp_path / "small.png", [named(LinearSchedule(timesteps=1))], tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as strip:
        assert strip.height == 24 + 3 * 28 + 24


@pytest.mark.parametrize(("size", "read"), [((900, 600), (3, 85, 128)), ((30, 20), (3, 20, 30)), ((5000, 3), (3, 1, 128))])
def test_a_picture_is_reduced_and_keeps_its_proportions(size: tuple[int, int], read: tuple[int, int, int], tmp_path: Path) -> None:
    Image.new("RGB", size, (10, 20, 30)).save(tmp_path / "p.png")
    pixels = read_reduced(tmp_path / "p.png", 128)
    assert pixels.shape == read
    assert pixels[:, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(("content", "reason"), [(None, "cannot be read"), (b"", "is empty"), (b"no", "no picture")])
def test_what_is_no_picture_is_refused(content: bytes | None, reason: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "p.png").write_bytes(content)
    with pytest.raises(DataError, match=reason):
        read_reduced(tmp_path / "p.png", 128)
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        read_reduced(tmp_path, 128)
