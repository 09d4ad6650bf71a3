"""Draw noise schedules as a figure in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ddpm_cli.core.io.files import replacing, require_writable_parent
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.errors import OutputError
from ddpm_cli.render.terminal.schedule import NamedSchedule, columns_of, signal_curves, snr_decibels

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe & Ito: told apart by colour-blind readers too
LINES = ("-", "--", "-.", ":")


def save_schedule_plot(schedules: Sequence[NamedSchedule], path: Path) -> None:
    """Draw beta (sigma where there is none), alpha_bar and SNR over t, beside each other, and replace `path` as a whole.

    Args:
        schedules: One or more, drawn in the same axes.
        path: Its suffix names the format: .png, .svg or .pdf.
    Raises:
        OutputError: If the path cannot be written or its suffix names no format.
    """
    require_writable_parent(path)
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    form = path.suffix[1:].lower()
    if form not in figure.canvas.get_supported_filetypes():
        raise OutputError(f'Cannot write {path}: "{path.suffix}" names no picture format.', "Name it .png, .svg or .pdf.")
    _draw(figure, schedules)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=form, dpi=150)


def _draw(figure: Figure, schedules: Sequence[NamedSchedule]) -> None:
    left, middle, right = figure.subplots(1, 3)
    tables = all(isinstance(named.schedule, NoiseSchedule) for named in schedules)
    name, signals = signal_curves([named.schedule for named in schedules])
    for index, (named, signal) in enumerate(zip(schedules, signals, strict=True)):
        schedule = named.schedule
        t = np.arange(schedule.timesteps)
        look = {"color": COLOURS[index % 4], "linestyle": LINES[index % 4], "label": named.title}
        marker = "o" if schedule.timesteps == 1 else ""
        left.plot(t, columns_of(schedule, scales=not tables)[0 if tables else 1].values, marker=marker, **look)
        middle.plot(t, signal, marker=marker, **look)
        right.plot(t, snr_decibels(schedule), marker=marker, **look)
    if tables:
        left.set(title="noise added by a step", ylabel="beta", yscale="log")
    else:
        left.set(title="scale of the noise", ylabel="sigma")
    of_image = "share of the image's variance left" if tables else "scale of the image"
    middle.set(title=of_image, ylabel=name, ylim=(-0.02, 1.02))
    right.set(title="signal-to-noise ratio", ylabel="SNR (dB)")
    for axes in (left, middle, right):
        axes.set_xlabel("t" if tables else "step")
        axes.grid(alpha=0.3)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(2, len(schedules)), frameon=False)
