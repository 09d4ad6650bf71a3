"""Draw the losses of a run as a picture that is kept up to date while it trains."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ddpm_cli.core.io.files import replacing
from ddpm_cli.results.events import CheckpointSaved, Event, MetricsLogged, TrainEnded, TrainPlanned
from ddpm_cli.runs.metrics_log import read_rows
from ddpm_cli.runs.run_directory import RunDirectory

MOST_TIME = 0.02
"""Share of the time since the last picture that drawing may take, but for the last one of all."""
FEWEST_LOSSES = 10
"""Training losses that are worth a picture on their own, where too few held-out ones make a curve."""
LABELS = {"loss": "training", "held_out_loss": "held out"}


class LossPlot:
    """Draw loss.png into the run folder after each held-out loss, and at the end; a listener.

    Held-out losses that come faster than pictures are worth are drawn with the next. A run of a few steps has no curve, and no
    picture; matplotlib is imported for the first.
    """

    def __init__(self) -> None:
        self._run: RunDirectory | None = None
        self._next = 0.0
        self._is_stale = False

    def __call__(self, event: Event) -> None:
        """Draw if it is time to."""
        self._is_stale |= isinstance(event, MetricsLogged)
        match event:
            case TrainPlanned(plan):
                self._run, self._next = RunDirectory(plan.run) if plan.run else None, 0.0
            case MetricsLogged(row) if row.get("held_out_loss") is not None:
                self._draw_in_time()
            case CheckpointSaved():
                self._draw_in_time()
            case TrainEnded():
                self._draw()

    def _draw_in_time(self) -> None:
        if time.monotonic() >= self._next:
            self._draw()

    def _draw(self) -> None:
        if self._run is None or not self._is_stale:
            return
        began = time.monotonic()
        save_loss_plot(self._run.metrics_log, self._run.loss_png)
        self._is_stale = False
        ended = time.monotonic()
        self._next = ended + (ended - began) / MOST_TIME


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
