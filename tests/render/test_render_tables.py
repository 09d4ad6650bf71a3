from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len

from ddpm_cli.config.schema import CosineSchedule, LinearSchedule, ScheduleConfig, SigmoidSchedule
from ddpm_cli.engine.build import build_schedule
from ddpm_cli.render import console, schedule
from ddpm_cli.render.console import PIPED_WIDTH, CleanConsole
from ddpm_cli.render.tables import show_facts, show_table

COLUMNS = ("run", "data", " steps", "about")
ROWS = [("first", "fashion-mnist-10k", "1,000,000", "the one with [brackets] and\ntwo lines"), ("second", "x", "7", "")]


def screen(width: int) -> CleanConsole:
    return CleanConsole(file=io.StringIO(), force_terminal=True, width=width, color_system=None, highlight=False)


def written(where: CleanConsole) -> list[str]:
    assert isinstance(where.file, io.StringIO)
    return where.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 200])
def test_a_table_fits_its_terminal_and_keeps_every_word(width: int) -> None:
    where = screen(width)
    show_table("a title", COLUMNS, ROWS, where)
    lines = written(where)
    assert max(map(cell_len, lines)) <= width
    text = "\n".join(lines)
    assert "…" not in text
    for cell in (cell for row in ROWS for cell in row):
        assert all(word in text for word in cell.split()), cell
    assert ("steps " in lines[2]) == (width >= 60)  # the heads in one line, or a block for each row


def test_nothing_is_wrapped_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    where = CleanConsole(file=io.StringIO(), highlight=False)
    assert (where.width, where.drawing_width) == (PIPED_WIDTH, 40)
    long = "word " * 100
    show_table("", COLUMNS, [("first", "x", "1", long)], where)
    show_facts("title", {"label": long, "other": "one\ntwo"}, where)
    assert [line.rstrip() for line in written(where)][2:] == [
        f"first  x         1  {long.rstrip()}",
        "title",
        f"label: {long.rstrip()}",
        "other: one",
        "       two",
    ]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_compared_schedules_lose_no_figure(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    where = screen(width)
    monkeypatch.setattr(schedule, "results", where)
    monkeypatch.setattr(console, "results", where)
    configs: list[ScheduleConfig] = [LinearSchedule(), CosineSchedule(), SigmoidSchedule(), LinearSchedule(beta_end=0.05)]
    schedule.show_schedules([schedule.NamedSchedule(config, build_schedule(config)) for config in configs], rows=5)
    text = "\n".join(written(where))
    assert "…" not in text
    assert max(map(cell_len, written(where))) <= width
    for config in configs:
        assert f"{build_schedule(config).alphas_cumprod[999]:.4g}" in text
    assert len(re.findall(r"^ *999 ", text, re.MULTILINE)) >= 1
