"""Show noise schedules as tables and curves in the terminal, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from ddpm_cli.config.schema.schedule import ScheduleConfig
from ddpm_cli.diffusion.levels import Schedule
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.render.pictures.canvas import Canvas
from ddpm_cli.render.terminal.console import print_json, print_text, results
from ddpm_cli.render.terminal.tables import fits, show_table

STYLES = ("cyan", "magenta", "green", "red")
CURVE_ROWS = 10
LABEL_WIDTH = 7
ADJUSTMENTS = ("logsnr_shift", "zero_terminal_snr")
TABLE = ("path", "values", "betas")
WIDEST_CURVE = 90
"""Characters; two curves beside each other if both fit."""


@dataclass(frozen=True)
class NamedSchedule:
    """Hold a schedule with the config it was built from."""

    config: ScheduleConfig
    schedule: Schedule

    @property
    def kind(self) -> str:
        """Tell its kind, by which a reader tells it from others."""
        return self.config.kind

    @property
    def title(self) -> str:
        """Say kind and options in one line."""
        options = self.config.model_dump(exclude={"kind", "timesteps", *ADJUSTMENTS, *TABLE})
        adjusted = self.config.model_dump(include={*ADJUSTMENTS}, exclude_defaults=True)
        written = [_written(option) for option in options.items()]
        return ", ".join([f"{self.kind}: T = {self.config.timesteps}", *written, *map(_written, adjusted.items())])


def _written(option: tuple[str, Any]) -> str:
    name, value = option
    if value is True:
        return name
    return f"{name} = {value}" if isinstance(value, str) else f"{name} = {value:g}"


def snr_decibels(schedule: Schedule) -> NDArray[np.float64]:
    """Compute SNR in dB, [T]; -inf where no signal is left."""
    with np.errstate(divide="ignore"):
        return np.asarray(10.0 * np.log10(schedule.snr))


def selected_steps(timesteps: int, rows: int) -> list[int]:
    """Select at most `rows` steps, evenly spread from 0 to T-1."""
    return sorted({round(step) for step in np.linspace(0, timesteps - 1, min(rows, timesteps)).tolist()})


class Column(NamedTuple):
    """Hold numbers of each step, and what they are called in a table, in JSON and in CSV."""

    head: str
    key: str
    name: str
    values: NDArray[np.float64]
    digits: str = ".4g"


def columns_of(schedule: Schedule, *, scales: bool = False) -> list[Column]:
    """List what is shown of a schedule: betas and what follows, or with `scales`, and where there are no betas, alpha and sigma."""
    snr = Column("SNR dB", "snr", "snr", schedule.snr)
    if scales or not isinstance(schedule, NoiseSchedule):
        alpha = Column("alpha", "alpha", "alpha", schedule.signal_scales, ".5g")
        return [alpha, Column("sigma", "sigma", "sigma", schedule.noise_scales, ".5g"), snr]
    return [
        Column("beta", "betas", "beta", schedule.betas),
        Column("alpha_bar", "alphas_cumprod", "alpha_bar", schedule.alphas_cumprod, ".5g"),
        snr,
        Column("posterior variance", "posterior_variance", "posterior_variance", schedule.posterior_variance),
    ]


def signal_curves(schedules: Sequence[Schedule]) -> tuple[str, list[NDArray[np.float64]]]:
    """Tell how much of the image is left, in [0, 1], each [T]: alpha_bar, or alpha if one of them is no table; and its name."""
    tables = [schedule.alphas_cumprod for schedule in schedules if isinstance(schedule, NoiseSchedule)]
    if len(tables) == len(schedules):
        return "alpha_bar", tables
    return "alpha", [schedule.signal_scales for schedule in schedules]


def moment_text(schedule: Schedule, step: int) -> str:
    """Write t as the schedule counts it: a step, or a real t in [0, 1]."""
    return f"{(step + 1) / schedule.timesteps:g}" if schedule.is_continuous else f"{step}"


def show_schedules(schedules: Sequence[NamedSchedule], rows: int) -> None:
    """Print titles, a table of `rows` steps, and the curves of alpha_bar and SNR."""
    for index, named in enumerate(schedules):
        results.print(Text.assemble((f"{_mark(index, schedules)} ".lstrip(), STYLES[index % 4]), (named.title, "bold")))
    steps = selected_steps(schedules[0].schedule.timesteps, rows)
    for heads, cells in _tables(schedules, steps):
        print_text("")
        show_table("", heads, cells)
    print_text("")
    if results.encoding.startswith("utf"):
        _show_curves(schedules)


def _tables(schedules: Sequence[NamedSchedule], steps: Sequence[int]) -> list[tuple[list[str], list[list[str]]]]:
    """Heads and rows; as many schedules in one table as the terminal is wide enough for."""
    if len(schedules) == 1:
        return [_alone(schedules[0].schedule, steps)]
    for most in range(len(schedules), 0, -1):
        tables = [_compared(schedules[start : start + most], steps) for start in range(0, len(schedules), most)]
        if all(fits(heads, rows, results.width) for heads, rows in tables):
            break
    return tables


def _alone(schedule: Schedule, steps: Sequence[int]) -> tuple[list[str], list[list[str]]]:
    decibels, columns = snr_decibels(schedule), columns_of(schedule)

    def text(column: Column, t: int) -> str:
        return f"{decibels[t]:.2f}" if column.key == "snr" else f"{column.values[t]:{column.digits}}"

    rows = [[moment_text(schedule, t), *(text(column, t) for column in columns)] for t in steps]
    return [" t", *(f" {column.head}" for column in columns)], rows


def _compared(schedules: Sequence[NamedSchedule], steps: Sequence[int]) -> tuple[list[str], list[list[str]]]:
    name, signals = signal_curves([named.schedule for named in schedules])
    heads = [" \nt", *(head for named in schedules for head in (f" {named.kind}\n{name}", " \nSNR dB"))]
    curves = [(signal, snr_decibels(named.schedule)) for signal, named in zip(signals, schedules, strict=True)]
    rows = [[f"{t}", *(text for alphas, snr in curves for text in (f"{alphas[t]:.4g}", f"{snr[t]:.1f}"))] for t in steps]
    return heads, rows


def _show_curves(schedules: Sequence[NamedSchedule]) -> None:
    decibels = [snr_decibels(named.schedule) for named in schedules]
    finite = np.concatenate(decibels)[np.isfinite(np.concatenate(decibels))]
    lowest, highest = (finite.min(), finite.max()) if len(finite) else (-10.0, 0.0)  # none is where T is 1
    low, high = 10 * np.floor(lowest / 10), 10 * np.ceil(highest / 10)
    beside = results.drawing_width >= 2 * 50
    columns = min(results.drawing_width // (2 if beside else 1), WIDEST_CURVE) - LABEL_WIDTH - 3
    continuous = all(named.schedule.is_continuous for named in schedules)
    last = "1" if continuous else f"{schedules[0].schedule.timesteps - 1}"
    name, signals = signal_curves([named.schedule for named in schedules])
    panels = [
        _panel(name, signals, 0.0, 1.0, columns, last),
        _panel("SNR dB", decibels, float(low), float(max(high, low + 10)), columns, last),
    ]
    if beside:
        for left, right in zip(*panels, strict=True):
            left.append(" " * (columns + LABEL_WIDTH + 3 - left.cell_len))
            results.print(left.append_text(right), soft_wrap=True)
    else:
        for line in [*panels[0], Text(), *panels[1]]:
            results.print(line, soft_wrap=True)
    if len(schedules) > 1:
        legend = [(f"  {_mark(i, schedules)} {named.kind}", STYLES[i % 4]) for i, named in enumerate(schedules)]
        results.print(Text.assemble(" " * (LABEL_WIDTH - 1), *legend))


def _panel(title: str, curves: Sequence[NDArray[np.float64]], low: float, high: float, columns: int, last: str) -> list[Text]:
    canvas = Canvas(columns, CURVE_ROWS)
    for index, values in enumerate(curves):
        heights = (np.maximum(values, low) - low) / (high - low)
        canvas.curve(heights, STYLES[index % 4], _mark(index, curves), (index + 1) / (len(curves) + 1))
    labels = {0: high, CURVE_ROWS - 1: low}
    lines = [Text(f"{'':{LABEL_WIDTH}} {title} over t", style="bold")]
    for row, line in enumerate(canvas.lines()):
        label = f"{labels[row]:g}" if row in labels else ""
        lines.append(Text.assemble((f"{label:>{LABEL_WIDTH}}", "dim"), ("┤" if label else "│", "dim"), line))
    lines.append(Text(f"{'':{LABEL_WIDTH}}└{'─' * columns}", style="dim"))
    lines.append(Text(f"{'':{LABEL_WIDTH}} 0{last:>{columns - 1}}", style="dim"))
    return lines


def _mark(index: int, all_curves: Sequence[object]) -> str:
    """The character that stands for a curve; none for a curve alone."""
    return chr(ord("a") + index) if len(all_curves) > 1 else ""


def print_schedules_json(schedules: Sequence[NamedSchedule], *, compared: bool) -> None:
    """Print full tables: one object with `kind, timesteps, betas, alphas_cumprod, snr, posterior_variance`.

    One without betas has `alpha` and `sigma`, x_t = alpha * x_0 + sigma * eps, at t = 1/T, 2/T ... 1 instead of them.
    Compared schedules are a list of such objects under the key `schedules`.
    """
    objects = [_as_json(named) for named in schedules]
    print_json({"schedules": objects} if compared else objects[0])


def _as_json(named: NamedSchedule) -> dict[str, Any]:
    schedule = named.schedule
    columns = {column.key: column.values.tolist() for column in columns_of(schedule)}
    return {"kind": named.kind, "timesteps": schedule.timesteps} | columns


def print_schedules_csv(schedules: Sequence[NamedSchedule]) -> None:
    """Print one row for each schedule and step, with every digit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    scales = any(not isinstance(named.schedule, NoiseSchedule) for named in schedules)
    writer.writerow(["kind", "t", *(column.name for column in columns_of(schedules[0].schedule, scales=scales))])
    for named in schedules:
        columns = columns_of(named.schedule, scales=scales)
        for t, numbers in enumerate(zip(*(column.values.tolist() for column in columns), strict=True)):
            writer.writerow([named.kind, moment_text(named.schedule, t), *numbers])
    print_text(text.getvalue().rstrip("\n"))
