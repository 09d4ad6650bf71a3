"""Draw the curves of a report, as plotly's own HTML. Their colours are set in the page, which has a light and a dark look."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ddpm_cli.render.terminal.format import duration
from ddpm_cli.render.terminal.schedule import signal_curves, snr_decibels
from ddpm_cli.runs.metrics_log import NO_LONGER_PAYS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

    from ddpm_cli.diffusion.levels import Schedule
    from ddpm_cli.results.figure import StoredFigure

    Log = Sequence[Mapping[str, float]]

T = TypeVar("T")
LOSSES = {"loss": "training", "held_out_loss": "held-out"}
OTHERS = {"lr": "Learning rate", "images_per_second": "Images per second", "grad_norm": "Gradient norm"}
LOGARITHMIC = frozenset({"grad_norm"})
NO_CURVE = frozenset({"step", "epoch", "images", "seconds", "non_finite_steps", NO_LONGER_PAYS, *LOSSES, *OTHERS})
MOST_METRICS = 12
MOST_POINTS = 2000
"""Of one curve; of more, every second, third ... is drawn, and always the last."""
FEW = 12
"""Points that are each marked: a line alone would not show where they are, nor a single one at all."""
HEIGHT = 260
FONT = {"family": "system-ui, sans-serif", "size": 12}


@dataclass(frozen=True)
class Plot:
    """Hold a plot with its title.

    Attributes:
        title: Text.
        html: Plotly's.
    """

    title: str
    html: str


def training_plots(log: Log) -> list[Plot]:
    """Plot the losses together, then each metric, the learning rate, the speed and the gradient, as far as they were logged."""
    names = dict.fromkeys(name for row in log for name in row)
    metrics = [name for name in names if name not in NO_CURVE][:MOST_METRICS]
    groups = [("Loss", LOSSES, True)]
    groups += [(name, {name: name}, False) for name in metrics]
    groups += [(title, {name: title.lower()}, name in LOGARITHMIC) for name, title in OTHERS.items()]
    return [
        Plot(title, _plot(_logged(log, present), "step", logarithmic=logarithmic))
        for title, curves, logarithmic in groups
        if (present := {name: label for name, label in curves.items() if name in names})
    ]


def width_plots(figures: Sequence[StoredFigure]) -> list[Plot]:
    """Plot each metric over the width of the average that it was measured of (`ddpm ema`), where there are several.

    A line for each step and way of measuring.
    """
    by_metric: dict[str, dict[str, dict[float, float]]] = {}
    for stored in figures:
        width = stored.figure.details.get("ema_width")
        if isinstance(width, float):
            lines = by_metric.setdefault(stored.figure.metric, {})
            lines.setdefault(_way(stored), {})[width] = stored.figure.value
    return [
        Plot(f"{metric} over the width of the average", _plot([_over_widths(*line) for line in lines.items()], "width"))
        for metric, lines in by_metric.items()
        if any(len(points) > 1 for points in lines.values())
    ]


def _way(stored: StoredFigure) -> str:
    figure = stored.figure
    how = "".join(f", {figure.details[name]}" for name in ("sampler", "steps", "guidance") if name in figure.details)
    return f"step {stored.step:,}, n = {figure.n:,}, seed {figure.seed}{how}"


def _over_widths(label: str, points: Mapping[float, float]) -> Scatter:
    widths = sorted(points)
    return _line(widths, [points[width] for width in widths], label)


def schedule_plots(schedule: Schedule) -> list[Plot]:
    """Plot alpha_bar, or alpha where there are no betas, and the signal-to-noise ratio over t."""
    t = _thinned(range(schedule.timesteps))
    decibels = snr_decibels(schedule)
    levels = [float(decibels[at]) if np.isfinite(decibels[at]) else None for at in t]
    name, (signal,) = signal_curves([schedule])
    what = "share of the image's variance left" if name == "alpha_bar" else "scale of the image"
    return [
        Plot(f"{name}: {what}", _plot([_line(t, signal[t].tolist(), name)], "t")),
        Plot("Signal-to-noise ratio in dB", _plot([_line(t, levels, "SNR", "%{y:.1f} dB")], "t")),
    ]


def library() -> str:
    """Read the source of plotly.js, which all plots of a page share."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _logged(log: Log, curves: Mapping[str, str]) -> Iterator[Scatter]:
    for name, label in curves.items():
        rows = _thinned([row for row in log if name in row and "step" in row])
        hover = [_circumstances(row) for row in rows]
        yield _line([row["step"] for row in rows], [row[name] for row in rows], label, "%{fullData.name} %{y:.5g}%{text}", hover)


def _circumstances(row: Mapping[str, float]) -> str:
    images = f" · {row['images']:,.0f} images" if "images" in row else ""
    return images + (f" · {duration(row['seconds'])}" if "seconds" in row else "")


def _line(
    x: Sequence[float], y: Sequence[float | None], label: str, hover: str = "%{y:.4g}", text: Sequence[str] | None = None
) -> Scatter:
    """A curve; plotly reads markup in its texts, so that a stranger's are escaped."""
    from plotly.graph_objects import Scatter

    mode = "lines+markers" if len(x) <= FEW else "lines"
    hover = f"{hover}<extra></extra>"
    return Scatter(x=x, y=y, name=html.escape(label), mode=mode, hovertemplate=hover, text=text, line={"width": 1.75})


def _thinned(points: Sequence[T]) -> list[T]:
    stride = -(-len(points) // MOST_POINTS) or 1
    return [*points[:-1:stride], *points[-1:]]


def _plot(lines: Iterator[Scatter] | Sequence[Scatter], x_title: str, *, logarithmic: bool = False) -> str:
    from plotly.graph_objects import Figure
    from plotly.io import to_html

    figure = Figure(list(lines))
    _lay_out(figure, x_title)
    _scale(figure, logarithmic=logarithmic)
    config = {"displayModeBar": False, "displaylogo": False, "responsive": True}
    return str(to_html(figure, config=config, include_plotlyjs=False, full_html=False, default_height=f"{HEIGHT}px"))


def _scale(figure: Figure, *, logarithmic: bool) -> None:
    values = [value for line in figure.data for value in line.y if value is not None]
    if len(set(values)) == 1 and values[0] > 0:  # plotly would draw a learning rate of 0.0002 as 0 between -1 and 1
        figure.update_yaxes(range=[0, 2 * values[0]])
    elif logarithmic and min(values) > 0:
        figure.update_yaxes(type="log")


def _lay_out(figure: Figure, x_title: str) -> None:
    figure.update_layout(
        template="none",
        margin={"l": 52, "r": 24, "t": 8, "b": 40},
        hovermode="x",
        showlegend=len(figure.data) > 1,
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font=FONT,
        hoverlabel={"font": FONT},
    )
    figure.update_xaxes(title={"text": x_title, "standoff": 8}, zeroline=False, showgrid=False)
    figure.update_yaxes(zeroline=False, automargin=True, tickformat="~g")
