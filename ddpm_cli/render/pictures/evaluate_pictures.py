"""Draw the pictures of an evaluation: samples beside their nearest training images, and the loss over t."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ddpm_cli.core.io.files import replacing
from ddpm_cli.render.pictures.images import Images, save_grid
from ddpm_cli.results.events import Event, NearestPairs, TimestepLosses

PAIRS_IN_A_ROW = 4


def draw_evaluation(event: Event) -> None:
    """Write the pictures of an evaluation; a listener."""
    if isinstance(event, NearestPairs):
        save_grid(event.path, side_by_side(event.samples, event.neighbours), 2 * min(PAIRS_IN_A_ROW, len(event.samples)))
    elif isinstance(event, TimestepLosses):
        save_loss_plot(event.rows, event.path)


def side_by_side(samples: Images, neighbours: Images) -> Images:
    """Put each sample before its neighbour: uint8 [2 N, C, H, W] out of two of [N, C, H, W]."""
    return np.stack([samples, neighbours], axis=1).reshape(-1, *samples.shape[1:])


def save_loss_plot(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw the loss of held-out images over t, with its standard error, and replace `path` as a whole.

    Args:
        rows: Of `t_first`, `t_last`, `loss` and `standard_error`.
        path: A .png file.
    Raises:
        OutputError: If it cannot be written.
    """
    from matplotlib.figure import Figure

    from ddpm_cli.render.pictures.schedule_plot import COLOURS

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    middle = [(row["t_first"] + row["t_last"]) / 2 for row in rows]
    axes.errorbar(
        middle, [row["loss"] for row in rows], yerr=[row["standard_error"] for row in rows], color=COLOURS[0], marker="o", capsize=2
    )
    axes.set(xlabel="t", ylabel="loss", yscale="log", title="loss of held-out images over t (bars: standard error)")
    axes.grid(alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
