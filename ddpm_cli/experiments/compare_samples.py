"""Draw images of several runs from the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from ddpm_cli.core.compute.device import resolve_device
from ddpm_cli.results.events import Event, Listener, Notice, SampleProgress, ignore
from ddpm_cli.sampling.bounds import Demand, require_affordable
from ddpm_cli.sampling.file_bounds import Bounds
from ddpm_cli.sampling.generate import generate_samples, load_trained

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ddpm_cli.results.comparison import Arm, Run

FEWER = "Draw fewer images, or none (--n, --no-grids)"
MOST_ROWS = 12


class Row(NamedTuple):
    """Hold the view in 8 bits of images of one run, uint8 [N, C, H, W], and whose they are."""

    name: str
    images: NDArray[np.uint8]


def draw_rows(
    arms: Sequence[Arm],
    seeds: Sequence[int],
    *,
    device: str = "auto",
    bounds: Bounds | None = None,
    fewer: str = FEWER,
    on_event: Listener = ignore,
) -> list[Row]:
    """Draw the same seeds from each run, with the run's own sampler.

    Args:
        arms: Of a comparison. Of more than MOST_ROWS runs, only one of each arm is drawn.
        seeds: One for each image.
        device: Where to compute.
        bounds: On what a run may ask for; the usual ones if None.
        fewer: What to do for less, a sentence without its full stop.
        on_event: Told of each denoising step, and of runs that have nothing to draw from.
    Returns:
        A row for each run with a checkpoint.
    Raises:
        CheckpointError: If weights do not fit their config.
        RequestError: If a run asks for more time or memory than the bounds allow.
    """
    chosen = _chosen(arms)
    for run in chosen:
        if not run.has_checkpoint:
            on_event(Notice(f"{run.name} has no checkpoint, so that it has no row in the grids.", important=True))
    drawn = [run for run in chosen if run.has_checkpoint]
    return [_draw(run, seeds, device, bounds, fewer, _of_all(on_event, place, len(drawn))) for place, run in enumerate(drawn)]


def _chosen(arms: Sequence[Arm]) -> list[Run]:
    runs = [run for arm in arms for run in arm.runs]
    if len(runs) <= MOST_ROWS:
        return runs
    return [next((run for run in arm.runs if run.has_checkpoint), arm.runs[0]) for arm in arms]


def _draw(run: Run, seeds: Sequence[int], device: str, bounds: Bounds | None, fewer: str, on_event: Listener) -> Row:
    import torch

    trained = load_trained(run.path, resolve_device(device), on_event=on_event)
    settings = trained.config.sample
    demand = replace(Demand.of(trained, settings, len(seeds)), fewer=fewer)
    require_affordable(trained, settings, demand, bounds, on_event)
    images = torch.cat(list(generate_samples(trained, seeds, on_event=on_event)))
    return Row(run.name, trained.scale.view(images).numpy())


def _of_all(on_event: Listener, place: int, rows: int) -> Listener:
    """A listener that turns the progress of one row into that of all, in thousandths of a row, as samplers differ in length."""

    def listen(event: Event) -> None:
        if isinstance(event, SampleProgress):
            event = SampleProgress(1000 * place + 1000 * event.done // event.total, 1000 * rows, event.images_done)
        on_event(event)

    return listen
