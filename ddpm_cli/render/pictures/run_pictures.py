"""Write the pictures that training leaves in the run folder."""

from __future__ import annotations

from ddpm_cli.render.pictures.images import draw_samples
from ddpm_cli.render.pictures.loss_plot import LossPlot
from ddpm_cli.results.events import Event


class RunPictures:
    """Write the sample grids and the curve of the loss; a listener."""

    def __init__(self) -> None:
        self._loss_plot = LossPlot()

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        draw_samples(event)
        self._loss_plot(event)
