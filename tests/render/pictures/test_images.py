"""Grids, pictures and animations as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_cli.errors import OutputError
from ddpm_cli.render.pictures.images import grid, picture, save_grid, save_trajectory
from ddpm_cli.render.terminal.format import duration, loss, quantity


def images(count: int, channels: int = 1, height: int = 3, width: int = 5) -> np.ndarray:
    values = np.arange(1, count + 1, dtype=np.uint8)
    return np.broadcast_to(values[:, None, None, None], (count, channels, height, width)).copy()


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (4, 2, 2), (5, 3, 2), (36, 6, 6), (37, 7, 6)])
def test_grids_are_near_square(count: int, columns: int, rows: int) -> None:
    assert grid(images(count)).shape == (1, rows * 5 + 2, columns * 7 + 2)


def test_each_image_is_in_its_place() -> None:
    canvas = grid(images(5), columns=2)[0]
    for number in range(5):
        top, left = 2 + number // 2 * 5, 2 + number % 2 * 7
        assert (canvas[top : top + 3, left : left + 5] == number + 1).all()
    canvas[canvas > 0] = 1
    assert canvas.sum() == 5 * 15  # nothing but the five images


def test_more_columns_than_images_make_one_row() -> None:
    assert grid(images(3), columns=10).shape == (1, 7, 23)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "RGB"), (3, "RGB"), (4, "RGBA"), (5, "RGB")])
def test_channels_become_a_mode(channels: int, mode: str) -> None:
    drawn = picture(images(1, channels)[0])
    assert (drawn.mode, drawn.size) == (mode, (5, 3))


@pytest.mark.parametrize("name", ["a.gif", "a.apng"])
def test_animation_rests_on_its_last_frame(name: str, tmp_path: Path) -> None:
    frames = [images(2) + shade for shade in (0, 100, 200)]
    save_trajectory(tmp_path / name, frames)
    with Image.open(tmp_path / name) as animation:
        assert animation.format == ("GIF" if name == "a.gif" else "PNG")
        assert (animation.n_frames, animation.info["loop"]) == (3, 0)
        durations = []
        for number in range(3):
            animation.seek(number)
            durations.append(animation.info["duration"])
            assert np.asarray(animation.convert("L"))[3, 3] == 1 + (0, 100, 200)[number]
    assert durations == [80, 80, 2000]


def test_transparency_is_kept_where_the_format_has_it(tmp_path: Path) -> None:
    for name, mode in (("a.apng", "RGBA"), ("a.gif", "RGB")):
        save_trajectory(tmp_path / name, [images(1, 4), images(1, 4) + 9])
        with Image.open(tmp_path / name) as animation:
            animation.seek(1)
            assert animation.mode == mode


@pytest.mark.parametrize(("count", "moments"), [(1, [0]), (4, [0, 1, 2, 3]), (19, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18])])
def test_a_filmstrip_has_a_row_for_each_image_and_time_goes_right(count: int, moments: list[int], tmp_path: Path) -> None:
    frames = [10 * images(2) + moment for moment in range(count)]
    save_trajectory(tmp_path / "strip.png", frames)
    with Image.open(tmp_path / "strip.png") as strip:
        drawn = np.asarray(strip)
    assert drawn.shape == (2 * 5 + 2, len(moments) * 7 + 2)
    assert drawn[2, 2::7].tolist() == [10 + moment for moment in moments]
    assert drawn[7, 2::7].tolist() == [20 + moment for moment in moments]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="absent"):
        save_grid(tmp_path / "absent" / "a.png", images(1))


def test_an_unknown_suffix_is_written_as_png(tmp_path: Path) -> None:
    save_grid(tmp_path / "grid", images(1))
    with Image.open(tmp_path / "grid") as written:
        assert written.format == "PNG"


def test_numbers_as_people_read_them() -> None:
    assert [duration(s) for s in (8.4, 250, 7500)] == ["8 s", "4 min 10 s", "2 h 05 min"]
    assert [quantity(v, u) for v, u in ((206_200_000, "FLOP"), (12.4e9, "FLOP"), (5, "B"))] == ["206 MFLOP", "12.4 GFLOP", "5 B"]
    assert [loss(None), loss(0.1234567)] == ["-", "0.12346"]
