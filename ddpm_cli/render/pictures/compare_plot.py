"""Draw pictures of a comparison: curves of training, and metrics over a setting of sampling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from ddpm_cli.core.io.files import replacing
from ddpm_cli.render.pictures.schedule_plot import LINES
from ddpm_cli.render.terminal.compare_tables import varying_conditions
from ddpm_cli.render.terminal.format import setting
from ddpm_cli.results.comparison import Arm, Comparison, Curve, Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#666666")  # Okabe & Ito
TITLES = {"held_out_loss": "held-out loss", "loss": "training loss, smoothed"}
SMOOTHED = "loss"
SETTLED = 0.1  # The share of a curve that may leave the axes: its fall from the untrained network's loss.
AXES_OF_SAMPLING = ("ema_width", "guide_scale", "steps", "guidance", "n")
EVEN = ("guidance", "guide_scale", "ema_width")
"""Those that a linear scale shows best."""
LINE, SEED_LINE = 1.8, 0.6
IMAGES, MINUTES, VALUES = 0, 1, 2

Array = NDArray[np.float64]
Look = dict[str, Any]


def save_curves(comparison: Comparison, path: Path) -> None:
    """Draw every curve of training over images seen and over time, and replace `path` as a whole.

    A thin line for each run, in the colour of its arm, and their mean where there are several.

    Raises:
        OutputError: If it cannot be written.
    """
    names = list(dict.fromkeys([*TITLES, *(name for run in comparison.runs for name in run.curves)]))
    names = [name for name in names if any(name in run.curves for run in comparison.runs)]
    figure = Figure(figsize=(12, 3.4 * max(len(names), 1) + 0.25 * len(comparison.arms)), layout="constrained")
    if names:
        panels = figure.subplots(len(names), 2, squeeze=False)
        for row, name in enumerate(names):
            for axes, over in zip(panels[row], (IMAGES, MINUTES), strict=True):
                _draw_curves(axes, comparison.arms, name, over)
            panels[row, 0].set_ylabel(TITLES.get(name, name))
            panels[row, 1].sharey(panels[row, 0])
            if name in TITLES and _objectives_differ(comparison):
                panels[row, 0].set_title("losses of different objectives: not comparable", fontsize=9, loc="left")
        _legend(figure, comparison.arms)
    _save(figure, path)


def look(place: int) -> Look:
    """Choose colour and line of the arm at that place, from 0."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": LINES[place // len(COLOURS) % len(LINES)]}


def _objectives_differ(comparison: Comparison) -> bool:
    verdicts = [verdict for measure in comparison.measures if not measure.conditions for verdict in measure.verdicts]
    return any(verdict.kind == "not comparable" for verdict in verdicts)


def _draw_curves(axes: Axes, arms: Sequence[Arm], name: str, over: int) -> None:
    """The curves of one name; `over` is IMAGES or MINUTES."""
    settled: list[Array] = []
    for number, arm in enumerate(arms):
        lines = [_line(run.curves[name], name) for run in arm.runs if name in run.curves]
        for line in lines if len(lines) > 1 else ():
            axes.plot(line[over], line[VALUES], **look(number), linewidth=SEED_LINE, alpha=0.6)
        if lines:
            mean = _mean(lines)
            axes.plot(mean[over], mean[VALUES], **look(number), linewidth=LINE, marker="o" if mean.shape[1] == 1 else "")
        settled += [line[VALUES, int(SETTLED * line.shape[1]) :] for line in lines]
    axes.set_xlabel("images seen" if over == IMAGES else "minutes of training")
    _scale(axes, np.concatenate(settled))
    axes.grid(alpha=0.3, which="both")


def _line(curve: Curve, name: str) -> Array:
    """IMAGES, MINUTES and VALUES of a curve, [3, N]."""
    values = np.array(curve.values)
    return np.stack([curve.images, np.array(curve.seconds) / 60, _smooth(values) if name == SMOOTHED else values])


def _smooth(values: Array) -> Array:
    """The mean of each value and those before it, over a twentieth of the curve."""
    width = max(len(values) // 20, 1)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    mean: Array = (sums[ends] - sums[starts]) / (ends - starts)
    return mean


def _mean(lines: Sequence[Array]) -> Array:
    """The mean of lines, and of the time that each took, where all of them are; at the places of the first."""
    first, last = max(line[IMAGES, 0] for line in lines), min(line[IMAGES, -1] for line in lines)
    images = lines[0][IMAGES]
    images = images[(images >= first) & (images <= last)]
    rows = [np.mean([np.interp(images, line[IMAGES], line[row]) for line in lines], axis=0) for row in (MINUTES, VALUES)]
    return np.stack([images, *rows])


def _scale(axes: Axes, settled: Array) -> None:
    """Logarithmic where all is positive; the fall at the start, which all runs share, may leave the picture."""
    low, high = settled.min(), settled.max()
    if low > 0:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.03, high * 1.03)
        for axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            axis(lambda value, _: f"{value:g}")
    elif high > low:
        axes.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))


# -------------------------------------------------------------------------------------------------------------- metrics


def save_metrics(comparison: Comparison, path: Path) -> bool:
    """Draw what was measured of the trained runs, and replace `path` as a whole.

    Over the width of the average (or the guide's scale, the steps of sampling, guidance, or n) where a metric was measured at
    several, with the range of the seeds; else arm beside arm, a dot for each seed.

    Returns:
        Whether there was anything to draw.
    Raises:
        OutputError: If it cannot be written.
    """
    by_metric: dict[str, list[Measure]] = {}
    for measure in comparison.measures:
        if measure.conditions:
            by_metric.setdefault(measure.metric, []).append(measure)
    if not by_metric:
        return False
    figure = Figure(figsize=(6 * min(len(by_metric), 2), 4.6 * -(-len(by_metric) // 2)), layout="constrained")
    panels = figure.subplots(-(-len(by_metric) // 2), min(len(by_metric), 2), squeeze=False).flatten()
    for axes in panels[len(by_metric) :]:
        axes.set_visible(False)
    for (metric, measures), axes in zip(by_metric.items(), panels, strict=False):
        over = next((name for name in AXES_OF_SAMPLING if name in varying_conditions(measures)), None)
        if over is None:
            _draw_dots(axes, measures)
        else:
            _draw_over(axes, measures, over)
        axes.set_ylabel(metric)
        axes.grid(alpha=0.3)
    _save(figure, path)
    return True


def _draw_over(axes: Axes, measures: Sequence[Measure], over: str) -> None:
    others = [name for name in varying_conditions(measures) if name != over]
    groups: dict[str, list[Measure]] = {}
    for measure in measures:
        if isinstance(measure.conditions.get(over), int | float):
            groups.setdefault(" ".join(setting(measure.conditions.get(name)) for name in others), []).append(measure)
    lines = [(label, place) for label in groups for place in range(len(measures[0].arms))]
    for number, (label, place) in enumerate(lines):
        several_arms = len(measures[0].arms) > 1
        style = look(place if several_arms else number)
        if several_arms:
            style["linestyle"] = LINES[list(groups).index(label) % len(LINES)]
        arm = measures[0].arms[place].arm
        name = f"{arm} {label}".strip() if several_arms else label or arm
        _draw_line(axes, groups[label], place, over, name, style)
    axes.set_xlabel(over)
    axes.set_xscale("linear" if over in EVEN else "log")
    ticks = sorted({measure.conditions[over] for group in groups.values() for measure in group})
    axes.set_xticks(ticks, [setting(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend(fontsize=8)


def _draw_line(axes: Axes, measures: Sequence[Measure], place: int, over: str, label: str, style: Look) -> None:
    points = sorted((m.conditions[over], list(m.arms[place].values.values())) for m in measures if m.arms[place].values)
    x = [at for at, _ in points]
    axes.plot(x, [np.mean(values) for _, values in points], marker="o", markersize=4, label=label, **style)
    axes.fill_between(x, [min(v) for _, v in points], [max(v) for _, v in points], color=style["color"], alpha=0.15, linewidth=0)


def _draw_dots(axes: Axes, measures: Sequence[Measure]) -> None:
    for number, measure in enumerate(measures):
        shift = (number - (len(measures) - 1) / 2) * 0.2
        for place, figures in enumerate(measure.arms):
            values = list(figures.values.values())
            axes.plot([place + shift] * len(values), values, "o", color=look(place)["color"], alpha=0.6, markersize=5)
            axes.plot(
                [place + shift], [np.nan if figures.mean is None else figures.mean], "_", color=look(place)["color"], markersize=22
            )
    names = [figures.arm for figures in measures[0].arms]
    axes.set_xticks(range(len(names)), names, rotation=20 if len(names) > 3 else 0, ha="right" if len(names) > 3 else "center")
    axes.set_xlim(-0.6, len(names) - 0.4)


def _legend(figure: Figure, arms: Sequence[Arm]) -> None:
    handles = [Line2D([], [], **look(number), linewidth=LINE, label=arm.name) for number, arm in enumerate(arms)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(3, len(arms)), frameon=False)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
