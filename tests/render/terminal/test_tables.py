from __future__ import annotations

import io
import re
from functools import partial

import pytest
from rich.cells import cell_len

from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.schema.schedule import CosineSchedule, LinearSchedule, ScheduleConfig, SigmoidSchedule
from ddpm_cli.render.terminal import console, schedule
from ddpm_cli.render.terminal.console import PIPED_WIDTH, CleanConsole
from ddpm_cli.render.terminal.tables import show_facts, show_table

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


def test_a_block_keeps_both_of_two_columns_of_the_same_head() -> None:
    where = screen(30)
    show_table("", ("run", " training", " best", " held-out", " best"), [("a run " * 9, "0.11", "0.12", "0.13", "0.14")], where)
    assert "training 0.11 best 0.12 held-out 0.13 best 0.14" in " ".join(" ".join(written(where)).split())


def test_short_facts_of_a_block_stand_beside_each_other_below_those_of_other_blocks() -> None:
    where = screen(40)
    rows = [("thenameofthefirstofallruns", "1,000,000", "done", "0.1"), ("second", "7", "training 5%", "-")]
    show_table("", ("run", " steps", "state", " best"), rows, where)
    assert [line.rstrip() for line in written(where)] == [
        "thenameofthefirstofallruns",
        "  steps 1,000,000  state done",
        "  best 0.1",
        "second",
        "  steps 7          state training 5%",
        "  best -",
    ]


def test_a_long_name_is_broken_at_its_joints_and_leaves_the_table_a_table() -> None:
    where = screen(60)
    name = "a-long-name-of-sixty-characters-which-someone_may.well/write"
    show_table("", ("run", " steps", "state"), [(name, "1,000,000", "done"), ("short", "7", "done")], where)
    lines = written(where)
    assert max(map(cell_len, lines)) <= 60
    starts = [line.split("  ")[0].rstrip() for line in lines[2:-1]]
    assert "".join(starts) == name
    assert all(start[-1] in "-_./" for start in starts[:-1])
    assert lines[-1].split() == ["short", "7", "done"]


def test_prose_gives_way_before_a_word_is_broken() -> None:
    """rich alone takes as much from the column of the long word."""
    where = screen(60)
    word = "examples-of-results-and-of-readmes"
    show_table("", ("file", "about"), [(word, "short words all of them, and so many that they fill a line or two")], where)
    assert word in "\n".join(written(where))
    assert "file" in written(where)[0]
    assert "about" in written(where)[0]


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


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_compared_schedules_lose_no_figure(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    where = screen(width)
    for module in (schedule, console):
        monkeypatch.setattr(module, "results", where)
    monkeypatch.setattr(schedule, "show_table", partial(show_table, console=where))
    configs: list[ScheduleConfig] = [LinearSchedule(), CosineSchedule(), SigmoidSchedule(), LinearSchedule(beta_end=0.05)]
    schedule.show_schedules([schedule.NamedSchedule(config, build_schedule(config)) for config in configs], rows=5)
    text = "\n".join(written(where))
    assert "…" not in text
    assert max(map(cell_len, written(where))) <= width
    for config in configs:
        assert f"{build_schedule(config).alphas_cumprod[999]:.4g}" in text
    assert len(re.findall(r"^ *999 |^t 999$", text, re.MULTILINE)) >= 1
