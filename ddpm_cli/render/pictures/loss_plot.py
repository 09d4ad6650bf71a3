"""Draw the losses of a run over its steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ddpm_cli.core.io.files import replacing
from ddpm_cli.runs.metrics_log import read_rows

FEWEST_LOSSES = 10
"""Training losses that are worth a picture on their own, where too few held-out ones make a curve."""
LABELS = {"loss": "training", "held_out_loss": "held out"}


def save_loss_plot(log: Path, path: Path) -> bool:
    """Draw the losses of a metrics log over the steps, and replace `path` as a whole.

    Args:
        log: A metrics.jsonl.
        path: A .png file.
    Returns:
        Whether there was a curve to draw: two held-out losses, or FEWEST_LOSSES training losses, two where none are held out.
    Raises:
        OutputError: If it cannot be written.
        RunError: If the log cannot be read.
    """
    rows = read_rows(log)
    curves = {name: _points(rows, name) for name in LABELS}
    held_out, training = len(curves["held_out_loss"]), len(curves["loss"])
    if held_out < 2 and training < (FEWEST_LOSSES if held_out else 2):
        return False
    from matplotlib.figure import Figure

    from ddpm_cli.render.pictures.schedule_plot import COLOURS

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for (name, points), colour, width in zip(curves.items(), COLOURS, (0.8, 1.8), strict=False):
        if points:
            steps, losses = zip(*points, strict=True)
            marker = "o" if len(points) < 30 and name == "held_out_loss" else ""
            axes.plot(steps, losses, color=colour, linewidth=width, marker=marker, markersize=4, label=LABELS[name])
    axes.set(xlabel="step", ylabel="loss", yscale="log" if _all_positive(curves.values()) else "linear")
    for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        formatter(lambda value, _: f"{value:g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return True


Points = list[tuple[float, float]]


def _points(rows: Iterable[Mapping[str, Any]], name: str) -> Points:
    return [(row["step"], row[name]) for row in rows if isinstance(row.get(name), int | float)]


def _all_positive(curves: Iterable[Points]) -> bool:
    return all(value > 0 for points in curves for _, value in points)
