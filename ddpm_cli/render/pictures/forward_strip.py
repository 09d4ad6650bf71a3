"""Draw the forward process on a picture: a strip over t, a row for each schedule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ddpm_cli.core.io.files import replacing
from ddpm_cli.data.sources.one_picture import read_reduced
from ddpm_cli.diffusion.forward_numpy import q_sample_numpy
from ddpm_cli.render.pictures.images import enlarged, picture, picture_format
from ddpm_cli.render.terminal.schedule import NamedSchedule, selected_steps, snr_decibels

MOMENTS = 8
LONGEST = 128
"""Pixels of a side. Noise is added at this size: the same noise hides less of a larger picture."""
SMALLEST_SHOWN = 96
GAP = 6
FONT = 13
LINE = 18

Pixels = NDArray[np.float64]


def save_forward_strip(image: Path, schedules: Sequence[NamedSchedule], path: Path, seed: int = 0) -> None:
    """Draw q(x_t | x_0) (DDPM, Eq. 4) of a picture at evenly spread t, and replace `path` as a whole.

    The first of each row is the picture itself; above each of the others stands its t, below it the SNR of its schedule in dB. All
    have the same noise, so that rows differ in their schedule alone.

    Args:
        image: File of the picture.
        schedules: Of the same T, one row for each.
        path: The strip; its suffix names a picture format.
        seed: Of the noise.
    Raises:
        DataError: If the picture cannot be read.
        OutputError: If the strip cannot be written.
    """
    x_0 = read_reduced(image, LONGEST) / 127.5 - 1
    eps = np.random.default_rng(seed).standard_normal(x_0.shape)
    steps = selected_steps(schedules[0].schedule.timesteps, MOMENTS)
    rows = [[_shown(x_0), *(_shown(q_sample_numpy(x_0, t, eps, named.schedule)) for t in steps)] for named in schedules]
    titles = ["x_0", *(f"t = {t}" for t in steps)]
    strip = _drawn(rows, titles, [_captions(named, steps) for named in schedules])
    with replacing(path) as temporary:
        strip.save(temporary, format=picture_format(path))


def _captions(named: NamedSchedule, steps: Sequence[int]) -> list[str]:
    decibels = snr_decibels(named.schedule)
    return [named.kind, *(f"SNR {decibels[t]:.1f} dB" for t in steps)]


def _shown(x: Pixels) -> Image.Image:
    """Pixels of [-1, 1], clipped to it, as a picture in which a small one is enlarged so that its pixels are seen."""
    pixels = np.clip(np.rint((x + 1) * 127.5), 0, 255).astype(np.uint8)
    drawn = picture(pixels).convert("RGB")
    return enlarged(drawn, SMALLEST_SHOWN // max(drawn.size))


def _drawn(rows: Sequence[Sequence[Image.Image]], titles: Sequence[str], captions: Sequence[Sequence[str]]) -> Image.Image:
    """Rows of pictures of one size on white, a title above each column and a caption below each picture."""
    font = ImageFont.load_default(size=FONT)
    width, height = rows[0][0].size
    texts = [*titles, *(caption for row in captions for caption in row)]
    column = max(width, *(round(font.getlength(text)) for text in texts)) + GAP
    row_height = height + LINE + GAP
    canvas = Image.new("RGB", (GAP + column * len(titles), LINE + GAP + row_height * len(rows)), "white")
    draw = ImageDraw.Draw(canvas)
    for x, title in enumerate(titles):
        middle = GAP + x * column + (column - GAP) / 2
        draw.text((middle, LINE / 2 + 2), title, fill="black", font=font, anchor="mm")
        for y, (row, caption) in enumerate(zip(rows, captions, strict=True)):
            top = LINE + GAP // 2 + y * row_height
            canvas.paste(row[x], (round(middle - width / 2), top))
            draw.text((middle, top + height + LINE / 2), caption[x], fill="black", font=font, anchor="mm")
    return canvas
