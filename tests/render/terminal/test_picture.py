"""Pictures in the terminal: where they are drawn, with what, and that nothing is asked of the terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

import pytest
from PIL import Image
from rich.console import Console

from ddpm_cli.render.terminal.picture import fitted_cells, graphics, half_blocks, shows_colours

COLOURED = {"TERM": "xterm-256color"}


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        (COLOURED, True),
        (COLOURED | {"NO_COLOR": "1"}, False),
        (COLOURED | {"NO_COLOR": ""}, True),
        (COLOURED | {"CI": "true"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": ""}, False),
        ({}, False),
    ],
)
def test_colours_are_shown_where_they_are_wanted(environment: dict[str, str], shown: bool) -> None:
    assert shows_colours(environment) is shown


@pytest.mark.parametrize(
    ("environment", "best"),
    [
        (COLOURED, "blocks"),
        ({"TERM": "xterm-kitty"}, "kitty"),
        (COLOURED | {"KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "foot-extra"}, "sixel"),
        (COLOURED | {"TERM_PROGRAM": "iTerm.app"}, "sixel"),
        (COLOURED | {"LC_TERMINAL": "iTerm2"}, "sixel"),
        (COLOURED | {"TERM_PROGRAM": "WezTerm"}, "sixel"),
        (COLOURED | {"TERM_PROGRAM": "Apple_Terminal"}, "blocks"),
        ({"TERM": "tmux-256color", "TMUX": "/tmp/x", "KITTY_WINDOW_ID": "1"}, "blocks"),
        ({"TERM": "screen", "LC_TERMINAL": "iTerm2"}, "blocks"),
    ],
)
def test_graphics_are_told_from_the_environment(environment: dict[str, str], best: str) -> None:
    assert graphics(environment) == best


@pytest.mark.parametrize(
    ("size", "screen", "cells"),
    [
        ((122, 122), (200, 100), (122, 61)),  # a column for each pixel
        ((122, 122), (80, 24), (72, 36)),  # taller than the screen, but to be recognised
        ((122, 122), (40, 100), (40, 20)),
        ((5000, 10), (80, 24), (80, 1)),
        ((1000, 1000), (400, 400), (200, 100)),
        ((1, 1), (80, 24), (1, 1)),
    ],
)
def test_a_picture_fits_the_terminal(size: tuple[int, int], screen: tuple[int, int], cells: tuple[int, int]) -> None:
    assert fitted_cells(size, *screen) == cells


def test_half_blocks_have_the_colours_of_the_picture() -> None:
    image = Image.new("RGB", (2, 2), (1, 2, 3))
    image.putpixel((1, 1), (200, 100, 50))
    console = Console(force_terminal=True, color_system="truecolor", width=20)
    with console.capture() as captured:
        console.print(half_blocks(image, 2, 1))
    same, other = "\x1b[38;2;1;2;3;48;2;1;2;3m▀", "\x1b[38;2;1;2;3;48;2;200;100;50m▀"
    assert captured.get().replace("\x1b[0m", "") == f"{same}{other}\n"


SCRIPT = (
    "import sys; from PIL import Image; from ddpm_cli.render.terminal.picture import show_picture; "
    "show_picture(Image.new('RGB', (60, 40), (250, 0, 0))); sys.stderr.write('END')"
)


def in_terminal(environment: dict[str, str], *, cell: int = 10) -> str:
    """What a process that shows a picture sends to a terminal of 80x24 that answers nothing."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 80 * cell, 24 * 2 * cell))
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "HOME", "LANG")}
    command = [sys.executable, "-c", SCRIPT]
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=kept | environment, start_new_session=True
    )
    os.close(follower)
    sent = b""
    began = time.monotonic()
    while b"END" not in sent and time.monotonic() - began < 60:
        if select.select([leader], [], [], 1)[0]:
            sent += os.read(leader, 65536)
    process.wait(60)
    os.close(leader)
    return sent.decode()


QUESTIONS = re.compile(r"\x1b\[c|\x1b\[16t|a=q")


@pytest.mark.parametrize(
    ("environment", "mark"),
    [
        (COLOURED | {"COLORTERM": "truecolor"}, "38;2;250;0;0;48;2;250;0;0m▀"),
        (COLOURED | {"TERM_PROGRAM": "iTerm.app"}, "\x1bP"),
        ({"TERM": "xterm-kitty"}, "\x1b_G"),
    ],
)
def test_a_terminal_gets_a_picture_and_no_question(environment: dict[str, str], mark: str) -> None:
    sent = in_terminal(environment | {"PYTHONIOENCODING": "utf-8"})
    assert mark in sent
    assert QUESTIONS.search(sent) is None


def test_a_terminal_that_does_not_tell_its_pixels_gets_half_blocks() -> None:
    sent = in_terminal({"TERM": "xterm-kitty", "PYTHONIOENCODING": "utf-8"}, cell=0)
    assert "▀" in sent
    assert "\x1b_G" not in sent
    assert QUESTIONS.search(sent) is None


@pytest.mark.parametrize("unwanted", [{"NO_COLOR": "1"}, {"CI": "1"}, {"TERM": "dumb"}])
def test_nothing_is_drawn_where_it_is_not_wanted(unwanted: dict[str, str]) -> None:
    assert in_terminal(COLOURED | unwanted) == "END"


def test_nothing_is_drawn_into_a_pipe() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=os.environ | COLOURED | {"FORCE_COLOR": "1"}, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("", "END")
