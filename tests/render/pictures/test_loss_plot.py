"""The picture of the losses shows what the log says."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from ddpm_cli.render.pictures.loss_plot import save_loss_plot
from ddpm_cli.runs.metrics_log import MetricsLog


def log(path: Path, *rows: dict[str, float | int | None]) -> Path:
    with MetricsLog(path / "metrics.jsonl") as metrics:
        for row in rows:
            metrics.append(row)
    return path / "metrics.jsonl"


def row(step: int, loss: float | None = None, held_out: float | None = None) -> dict[str, float | int | None]:
    return {"step": step, "loss": loss, "held_out_loss": held_out}


def colours(path: Path) -> set[tuple[int, int, int]]:
    with Image.open(path) as picture:
        return {colour for _, colour in picture.convert("RGB").getcolors(maxcolors=2**24) or []}


BLUE, ORANGE = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)


@pytest.mark.parametrize("sign", [1, -1])
def test_both_losses_are_drawn(sign: int, tmp_path: Path) -> None:
    rows = [row(step, sign * 1 / step, sign * 2 / step if step % 2 == 0 else None) for step in range(1, 9)]
    assert save_loss_plot(log(tmp_path, *rows), tmp_path / "loss.png")
    assert {BLUE, ORANGE} <= colours(tmp_path / "loss.png")


def test_without_held_out_images_the_training_loss_is_drawn(tmp_path: Path) -> None:
    assert save_loss_plot(log(tmp_path, row(1, 0.5), row(2, 0.25)), tmp_path / "loss.png")
    assert BLUE in colours(tmp_path / "loss.png")
    assert ORANGE not in colours(tmp_path / "loss.png")


def test_a_run_that_ends_with_its_first_held_out_loss_has_a_picture(tmp_path: Path) -> None:
    rows = [row(step, 1 / step, 0.2 if step == 10 else None) for step in range(1, 11)]
    assert save_loss_plot(log(tmp_path, *rows), tmp_path / "loss.png")
    assert {BLUE, ORANGE} <= colours(tmp_path / "loss.png")


@pytest.mark.parametrize("rows", [[], [row(1, 0.5)], [row(1, 0.5), row(2, 0.4), row(3, 0.3, 0.3)]])
def test_one_point_is_no_curve(rows: list[dict[str, float | int | None]], tmp_path: Path) -> None:
    assert not save_loss_plot(log(tmp_path, *rows), tmp_path / "loss.png")
    assert not (tmp_path / "loss.png").exists()
