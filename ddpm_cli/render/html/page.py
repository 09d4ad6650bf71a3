"""Write a report as one HTML file that needs no network: styles, scripts and pictures are in it.

What a run folder holds is text: jinja escapes all of it, and the page's content security policy keeps it from loading anything.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli._version import __version__
from ddpm_cli.core.io.files import atomic_write
from ddpm_cli.render.html.facts import (
    figure_rows,
    incident_summary,
    incident_table,
    key_figures,
    log_table,
    moment,
    provenance,
    schedule_table,
    subtitle,
)
from ddpm_cli.render.html.plots import library, schedule_plots, training_plots, width_plots
from ddpm_cli.render.pictures.images import grid, picture
from ddpm_cli.render.terminal.schedule import moment_text, signal_curves, snr_decibels

if TYPE_CHECKING:
    from ddpm_cli.diffusion.levels import Schedule
    from ddpm_cli.runs.report import Moment, RunReport


@dataclass(frozen=True)
class Slide:
    """Hold one position of a slider.

    Attributes:
        label: What is seen.
        picture: As a data URI.
    """

    label: str
    picture: str


def save_report(report: RunReport, path: Path, written: float) -> int:
    """Write a report, whole or not at all.

    Args:
        report: What it tells.
        path: The file, which is replaced.
        written: The moment that the page names, in seconds since 1970.
    Returns:
        Its size in bytes.
    Raises:
        OutputError: If it cannot be written.
    """
    content = to_html(report, written).encode()
    atomic_write(path, content)
    return len(content)


def to_html(report: RunReport, written: float) -> str:
    """Write the page; arguments as in `save_report`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("ddpm_cli.render.html", "templates")
    templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    trajectory = report.trajectory
    return templates.get_template("page.html").render(
        name=report.run.name,
        subtitle=subtitle(report.run, report.info, report.schedule_kind),
        key_figures=key_figures(report.run),
        plotly=library(),
        training=training_plots(report.log),
        log=log_table(report.log),
        samples=[Slide(f"step {stored.step:,}", _data_uri(stored.picture)) for stored in report.grids],
        samples_found=report.grids_found,
        has_checkpoint=report.run.has_checkpoint,
        trajectory=trajectory,
        moments=[_slide(at, report.schedule) for at in trajectory.moments] if trajectory else [],
        schedule=schedule_plots(report.schedule),
        schedule_table=schedule_table(report.schedule),
        schedule_name=f"{report.schedule_kind}, T = {report.schedule.timesteps:,}",
        figures=figure_rows(report.figures),
        widths=width_plots(report.figures),
        incidents=incident_table(report.incidents),
        incident_summary=incident_summary(report.incidents),
        config=report.config_toml,
        provenance=provenance(report.info),
        version=__version__,
        written=moment(written),
    )


def _slide(at: Moment, schedule: Schedule) -> Slide:
    file = io.BytesIO()
    picture(grid(at.images)).save(file, format="PNG")
    return Slide(_noise_level(at.t, schedule), _data_uri(file.getvalue()))


def _noise_level(t: int, schedule: Schedule) -> str:
    if t < 0:
        return "finished images"
    name, (signal,) = signal_curves([schedule])
    return f"t = {moment_text(schedule, t)}, {name} {signal[t]:.3g}, SNR {snr_decibels(schedule)[t]:.1f} dB"


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
