"""Write the pictures of a run while it trains: the sample grids, and the curve of the loss."""

from __future__ import annotations

import time

from ddpm_cli.render.pictures.images import save_grid
from ddpm_cli.render.pictures.loss_plot import save_loss_plot
from ddpm_cli.results.events import CheckpointSaved, Event, Listener, MetricsLogged, SamplesDrawn, TrainEnded, together
from ddpm_cli.runs.run_directory import RunDirectory

MOST_TIME = 0.02
"""Share of the time since the last picture that drawing may take, but for the last one of all."""


def run_pictures(run: RunDirectory) -> Listener:
    """Make a listener that writes the pictures of a run into its folder."""
    return together(save_samples, LossPlot(run))


def save_samples(event: Event) -> None:
    """Write a grid of samples, under the name of its step and as the newest."""
    if isinstance(event, SamplesDrawn):
        save_grid(event.path, event.images)
        save_grid(event.newest, event.images)


class LossPlot:
    """Draw loss.png into the run folder after each held-out loss, and at the end; a listener.

    Held-out losses that come faster than pictures are worth are drawn with the next. A run of a few steps has no curve, and no
    picture; matplotlib is imported for the first.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._next = 0.0
        self._is_stale = False

    def __call__(self, event: Event) -> None:
        """Draw if it is time to."""
        self._is_stale |= isinstance(event, MetricsLogged)
        match event:
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
        if not self._is_stale:
            return
        began = time.monotonic()
        save_loss_plot(self._run.metrics_log, self._run.loss_png)
        self._is_stale = False
        ended = time.monotonic()
        self._next = ended + (ended - began) / MOST_TIME
