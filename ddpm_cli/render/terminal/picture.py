"""Draw pictures in the terminal: by its own graphics where it is known to have some, else with half blocks in colour.

What a terminal can is told from its environment. To ask it would be surer, but an answer that comes late, as over a slow line, is
taken for typing by whatever reads next.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, TextIO

import numpy as np
from rich.color import Color
from rich.style import Style
from rich.text import Text

from ddpm_cli.core.launch import is_main
from ddpm_cli.render.pictures.images import grid, picture
from ddpm_cli.render.terminal.console import messages
from ddpm_cli.results.events import Event, SamplesDrawn

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import RenderableType

Graphics = Literal["kitty", "sixel", "blocks"]
MULTIPLEXERS = ("screen", "tmux")
KITTY = ("xterm-kitty", "xterm-ghostty")
SIXEL = ("foot", "mlterm", "contour", "yaft")
SIXEL_PROGRAMS = ("iTerm.app", "WezTerm", "mintty")
WIDEST = 200
"""Columns, however wide the terminal is."""
FEWEST_ROWS = 36
"""Of a screen that has fewer the picture takes more: it is better to scroll than to see nothing."""


def show_picture(image: Image) -> None:
    """Draw a picture on stderr if a person sees it there: in a terminal that shows colours, and on the main process.

    Nothing is drawn where stdin, stdout or stderr leads elsewhere, under CI, with NO_COLOR, or in a dumb terminal.
    """
    if is_main() and _is_terminal(sys.__stdin__, sys.__stdout__, sys.__stderr__) and shows_colours(os.environ):
        console = messages
        columns, rows = fitted_cells(image.size, console.width, console.height)
        console.print(_drawing(image, graphics(os.environ), columns, rows))


def preview_samples(event: Event) -> None:
    """Draw the sample grids of a run in the terminal; a listener."""
    if isinstance(event, SamplesDrawn):
        show_picture(picture(grid(event.images)))


def _is_terminal(*streams: TextIO | None) -> bool:
    return all(stream is not None and not stream.closed and stream.isatty() for stream in streams)


def shows_colours(environment: Mapping[str, str]) -> bool:
    """Tell whether a terminal with this environment is one whose reader wants colours."""
    unwanted = any(environment.get(name) for name in ("NO_COLOR", "CI"))
    return not unwanted and environment.get("TERM", "dumb") not in ("", "dumb", "unknown")


def graphics(environment: Mapping[str, str]) -> Graphics:
    """Choose the best that a terminal with this environment is known to draw."""
    terminal = environment.get("TERM", "")
    if environment.get("TMUX") or terminal.startswith(MULTIPLEXERS):
        return "blocks"  # whatever terminal is around it, none of its graphics come through
    if terminal in KITTY or environment.get("KITTY_WINDOW_ID"):
        return "kitty"
    program = environment.get("TERM_PROGRAM") or environment.get("LC_TERMINAL", "").replace("iTerm2", "iTerm.app")
    return "sixel" if terminal.startswith(SIXEL) or program in SIXEL_PROGRAMS else "blocks"


def fitted_cells(size: tuple[int, int], columns: int, rows: int) -> tuple[int, int]:
    """Choose columns and rows for a picture of `size` (width, height): a column for each pixel and half a row, or fewer.

    Args:
        size: Pixels.
        columns: Of the terminal.
        rows: Likewise.
    """
    width, height = size
    scale = min(1.0, min(columns, WIDEST) / width, 2 * max(rows - 2, FEWEST_ROWS) / height)
    return max(round(scale * width), 1), max(round(scale * height / 2), 1)


def _drawing(image: Image, by: Graphics, columns: int, rows: int) -> RenderableType:
    if by != "blocks" and _cells_have_pixels():
        return _graphics_class(by)(image.convert("RGB"), columns, rows)
    return half_blocks(image, columns, rows)


def half_blocks(image: Image, columns: int, rows: int) -> Text:
    """Draw a picture as `rows` lines of upper half blocks, each in the colours of two pixels, the lower one as background."""
    from PIL.Image import Resampling

    pixels = np.asarray(image.convert("RGB").resize((columns, 2 * rows), Resampling.BOX)).tolist()
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        cells = [
            ("▀", Style(color=Color.from_rgb(*top), bgcolor=Color.from_rgb(*bottom)))
            for top, bottom in zip(upper, lower, strict=True)
        ]
        lines.append(Text.assemble(*cells, no_wrap=True))
    return Text("\n").join(lines)


def _cells_have_pixels() -> bool:
    """Whether the terminal tells its size in pixels with that in cells; where it does not, textual-image would ask it."""
    import struct

    try:
        import fcntl
        import termios
    except ImportError:  # on Windows, which does not tell
        return False
    if sys.__stdout__ is None:
        return False
    size = fcntl.ioctl(sys.__stdout__, termios.TIOCGWINSZ, bytes(8))
    return all(struct.unpack("HHHH", size))


def _graphics_class(by: Graphics) -> Callable[[Image, int, int], RenderableType]:
    """textual-image's class for a kind of graphics; its import asks the terminal what it can if it sees one."""
    streams, stdout = vars(sys), sys.__stdout__
    streams["__stdout__"] = None
    try:
        from textual_image.renderable import SixelImage, TGPImage
    finally:
        streams["__stdout__"] = stdout
    return TGPImage if by == "kitty" else SixelImage
