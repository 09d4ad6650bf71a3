"""How messages are wrapped on a terminal, and in which colours."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.cells import cell_len

import ddpm_cli.render
from ddpm_cli.errors import DdpmError
from ddpm_cli.render.terminal import console
from ddpm_cli.render.terminal.console import CleanConsole, show_error, show_notice
from ddpm_cli.results.events import Notice

COMMAND = "ddpm train --config runs/a-run/config.toml --set train.max_grad_norm=0.5"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal of 60 columns shows of errors and messages."""
    written = io.StringIO()
    terminal = CleanConsole(file=written, force_terminal=True, width=60, color_system=None, highlight=False)
    monkeypatch.setattr(console, "errors", terminal)
    monkeypatch.setattr(console, "messages", terminal)
    monkeypatch.setattr(console.show_line, "__defaults__", (terminal,))
    return written


def lines(written: io.StringIO) -> list[str]:
    return [line.rstrip() for line in written.getvalue().splitlines()]


def test_what_does_not_fit_stands_below_the_text_and_not_below_the_label(screen: io.StringIO) -> None:
    words = "one two three four five six seven eight nine ten eleven twelve thirteen"
    show_notice(Notice(words))
    show_error(DdpmError(words, words))
    notice, more, error, more_error, remedy, more_remedy = lines(screen)
    assert notice.startswith("note: one")
    assert re.match(" {6}[a-z]", more)
    assert error.startswith("error: one")
    assert re.match(" {7}[a-z]", more_error)
    assert remedy.startswith("  one")
    assert re.match("  [a-z]", more_remedy)
    assert max(map(cell_len, lines(screen))) <= 60


def test_a_command_is_never_broken_and_its_remark_stands_below_it(screen: io.StringIO) -> None:
    show_error(DdpmError("It diverged.", f"Try one of these:\n    {COMMAND}   (it was 1)\n    ddpm info   (short)"))
    assert lines(screen) == [
        "error: It diverged.",
        "  Try one of these:",
        f"    {COMMAND}",
        "      (it was 1)",
        "    ddpm info   (short)",
    ]


def test_a_command_at_the_end_of_a_sentence_moves_to_a_line_of_its_own(screen: io.StringIO) -> None:
    show_notice(Notice(f"Go on with: {COMMAND}"))
    assert lines(screen) == ["note: Go on with:", f"        {COMMAND}"]


def test_a_pipe_gets_each_line_whole(capsys: pytest.CaptureFixture[str]) -> None:
    words = "word " * 100
    show_error(DdpmError(words, f"Try:\n    {COMMAND}   (it was 1)\n    {words}"))
    assert capsys.readouterr().err.splitlines() == [
        f"error: {words}",
        "  Try:",
        f"    {COMMAND}   (it was 1)",
        f"    {words}",
    ]


def test_no_style_is_too_bright_for_white_or_too_dark_for_black() -> None:
    """Yellow and white vanish on white, blue on black, and a bold colour is a bright one on many terminals."""
    found = [
        f"{path.name}: {style}"
        for path in Path(ddpm_cli.render.__file__).parent.rglob("*.py")
        for style in re.findall(
            r'"((?:bold |bright_)(?:cyan|green|yellow|blue|white|black)|(?:bold |dim )?(?:yellow|blue|grey\d*))"', path.read_text()
        )
    ]
    assert found == []


def test_one_of_several_faults_is_told_from_the_next_by_its_indent(screen: io.StringIO) -> None:
    fault = "key: one two three four five six seven eight nine ten eleven twelve"
    show_error(DdpmError(f"2 faults:\n  {fault}\n  {fault}"))
    assert [len(line) - len(line.lstrip()) for line in lines(screen)] == [0, 2, 4, 2, 4]


def test_a_long_label_leaves_no_column_of_one_letter(screen: io.StringIO) -> None:
    console.show_line("a label as long as the name of a run of someone thorough:", "bold", "word " * 20)
    assert all("word word" in line for line in lines(screen)[1:])
