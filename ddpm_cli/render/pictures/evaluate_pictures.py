"""Draw the pictures of an evaluation: samples beside their nearest training images, and the loss over t."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ddpm_cli.core.io.files import replacing
from ddpm_cli.render.pictures.images import Images, save_grid

PAIRS_IN_A_ROW = 4


def save_pairs(samples: Images, neighbours: Images, path: Path) -> None:
    """Draw each sample followed by its neighbour, and replace `path` as a whole.

    Args:
        samples: uint8 [N, C, H, W].
        neighbours: As many, of the same size.
        path: A .png file.
    Raises:
        OutputError: If it cannot be written.
    """
    side_by_side = np.stack([samples, neighbours], axis=1).reshape(-1, *samples.shape[1:])
    save_grid(path, side_by_side, 2 * min(PAIRS_IN_A_ROW, len(samples)))


def save_timestep_losses(rows: Sequence[Mapping[str, float]], path: Path) -> None:
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
