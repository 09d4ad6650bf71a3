"""Pictures of a comparison: curves of training, and metrics over a setting of sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ddpm_cli.comparison import Arm, Comparison, Curve, Measure
from ddpm_cli.files import replacing
from ddpm_cli.render.compare import setting, varying_conditions
from ddpm_cli.render.schedule_plot import LINES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#666666")  # Okabe & Ito
TITLES = {"held_out_loss": "held-out loss", "loss": "training loss, smoothed"}
SMOOTHED = "loss"
SETTLED = 0.1  # The share of a curve that may leave the axes: its fall from the untrained network's loss.
AXES_OF_SAMPLING = ("steps", "guidance", "n")
LINE, SEED_LINE = 1.8, 0.6

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
            _draw_curves(panels[row, 0], comparison.arms, name, _by_images)
            _draw_curves(panels[row, 1], comparison.arms, name, _by_minutes)
            panels[row, 0].set(ylabel=TITLES.get(name, name), xlabel="images seen")
            panels[row, 1].set_xlabel("minutes of training")
            panels[row, 1].sharey(panels[row, 0])
        _legend(figure, panels[0, 0], len(comparison.arms))
    _save(figure, path)


def look(place: int) -> Look:
    """Colour and line of the arm at that place, from 0."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": LINES[place // len(COLOURS) % len(LINES)]}


def _by_images(curve: Curve) -> Array:
    return np.array(curve.images)


def _by_minutes(curve: Curve) -> Array:
    return np.array(curve.seconds) / 60


def _draw_curves(axes: Axes, arms: Sequence[Arm], name: str, place_of: Callable[[Curve], Array]) -> None:
    settled: list[Array] = []
    for number, arm in enumerate(arms):
        curves = [run.curves[name] for run in arm.runs if name in run.curves]
        lines = [(place_of(curve), _values(curve, name)) for curve in curves]
        for x, y in lines if len(lines) > 1 else ():
            axes.plot(x, y, **look(number), linewidth=SEED_LINE, alpha=0.6)
        x, y = _mean(lines)
        axes.plot(x, y, **look(number), linewidth=LINE, marker="o" if len(x) == 1 else "", label=arm.name)
        settled += [y[int(SETTLED * len(y)) :] for _, y in lines]
    _scale(axes, np.concatenate(settled))
    axes.grid(alpha=0.3, which="both")


def _values(curve: Curve, name: str) -> Array:
    values = np.array(curve.values)
    return _smooth(values) if name == SMOOTHED else values


def _smooth(values: Array) -> Array:
    """The mean of each value and those before it, over a twentieth of the curve."""
    width = max(len(values) // 20, 1)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    mean: Array = (sums[ends] - sums[starts]) / (ends - starts)
    return mean


def _mean(lines: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """The mean of lines where all of them are, at the places of the first."""
    if not lines:
        return np.array([]), np.array([])
    first, last = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    places = lines[0][0]
    places = places[(places >= first) & (places <= last)]
    return places, np.mean([np.interp(places, x, y) for x, y in lines], axis=0)


def _scale(axes: Axes, settled: Array) -> None:
    """Logarithmic where all is positive; the fall at the start, which all runs share, may leave the picture."""
    low, high = settled.min(), settled.max()
    if low > 0:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.03, high * 1.03)
    elif high > low:
        axes.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))


# -------------------------------------------------------------------------------------------------------------- metrics


def save_metrics(comparison: Comparison, path: Path) -> bool:
    """Draw what was measured of the trained runs, and replace `path` as a whole.

    Over the steps of sampling (or guidance, or n) where a metric was measured at several, with the range of the seeds; else arm
    beside arm, a dot for each seed.

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
    panels = figure.subplots(-(-len(by_metric) // 2), min(len(by_metric), 2), squeeze=False).flat
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
        _draw_line(axes, groups[label], place, over, " ".join([measures[0].arms[place].arm] * several_arms + [label]), style)
    axes.set_xlabel(over)
    axes.set_xscale("log" if over != "guidance" else "linear")
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
            axes.plot([place + shift], [np.nan if figures.mean is None else figures.mean], "_", color=look(place)["color"], markersize=22)
    names = [figures.arm for figures in measures[0].arms]
    axes.set_xticks(range(len(names)), names, rotation=20 if len(names) > 3 else 0, ha="right" if len(names) > 3 else "center")
    axes.set_xlim(-0.6, len(names) - 0.4)


def _legend(figure: Figure, axes: Axes, entries: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, entries), frameon=False)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
