"""Images of several runs from the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ddpm_cli.engine.device import resolve_device
from ddpm_cli.engine.generate import generate_samples, load_trained
from ddpm_cli.events import Event, Listener, Notice, SampleProgress, ignore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ddpm_cli.engine.arms import Arm
    from ddpm_cli.engine.run_record import RunRecord

MOST_ROWS = 12


class Row(NamedTuple):
    """Images of one run, uint8 [N, C, H, W], and whose they are."""

    name: str
    images: NDArray[np.uint8]


def draw_rows(arms: Sequence[Arm], seeds: Sequence[int], *, device: str = "auto", on_event: Listener = ignore) -> list[Row]:
    """Draw the same seeds from each run, with the run's own sampler.

    Args:
        arms: Of a comparison. Of more than MOST_ROWS runs, only one of each arm is drawn.
        seeds: One for each image.
        device: Where to compute.
        on_event: Told of each denoising step, and of runs that have nothing to draw from.
    Returns:
        A row for each run with a checkpoint.
    Raises:
        CheckpointError: If weights do not fit their config.
    """
    chosen = _chosen(arms)
    for run in chosen:
        if not run.has_checkpoint:
            on_event(Notice(f"{run.name} has no checkpoint, so that it has no row in the grids.", important=True))
    drawn = [run for run in chosen if run.has_checkpoint]
    total = sum(_steps(run, len(seeds)) for run in drawn)
    rows, before = [], 0
    for run in drawn:
        rows.append(_draw(run, seeds, device, _counted(on_event, before, total)))
        before += _steps(run, len(seeds))
    return rows


def _chosen(arms: Sequence[Arm]) -> list[RunRecord]:
    runs = [run for arm in arms for run in arm.runs]
    if len(runs) <= MOST_ROWS:
        return runs
    return [next((run for run in arm.runs if run.has_checkpoint), arm.runs[0]) for arm in arms]


def _draw(run: RunRecord, seeds: Sequence[int], device: str, on_event: Listener) -> Row:
    import torch

    trained = load_trained(Path(run.path), resolve_device(device), on_event=on_event)
    return Row(run.name, torch.cat(list(generate_samples(trained, seeds, on_event=on_event))).numpy())


def _steps(run: RunRecord, images: int) -> int:
    sample = run.config.sample
    return sample.sampler.number_of_steps(run.config.schedule.timesteps) * -(-images // sample.batch_size)


def _counted(on_event: Listener, before: int, total: int) -> Listener:
    """A listener that counts the steps of one run among those of all."""

    def listen(event: Event) -> None:
        if isinstance(event, SampleProgress):
            event = SampleProgress(before + event.done, total, event.images_done)
        on_event(event)

    return listen
