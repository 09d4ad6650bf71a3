"""Say what a report tells in words and numbers, as text; the page escapes it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ddpm_cli.core.io.files import printable
from ddpm_cli.render.terminal.evaluate import figure_lines
from ddpm_cli.render.terminal.format import duration, number, quantity
from ddpm_cli.render.terminal.schedule import columns_of, moment_text, selected_steps, snr_decibels
from ddpm_cli.runs.directory import data_facts

if TYPE_CHECKING:
    from ddpm_cli.diffusion.levels import Schedule
    from ddpm_cli.results.comparison import Run
    from ddpm_cli.results.events import Incident
    from ddpm_cli.results.figure import StoredFigure

Facts = list[tuple[str, str]]

MOST_FACTS = 200
DEEPEST = 4
MOST_INCIDENTS = 100
MOST_COLUMNS = 20
MOST_ROWS = 12
STEPS_SHOWN = 11
MOST_NUMBERS = 5
"""Of a list that an incident names."""


@dataclass(frozen=True)
class Table:
    """Hold a table as text.

    Attributes:
        heads: Of its columns.
        rows: Cells.
        first_number: Place of the first column of numbers, which stand to the right.
        last_number: Of the last.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    first_number: int
    last_number: int


def log_table(log: Sequence[Mapping[str, float]]) -> Table:
    """Choose rows of the log for those who cannot hover over curves, evenly; of those with a held-out loss as many again."""
    names = list(dict.fromkeys(name for row in log for name in row))[:MOST_COLUMNS]
    measured = [place for place, row in enumerate(log) if "held_out_loss" in row]
    chosen = sorted({*_evenly(range(len(log))), *_evenly(measured)})
    rows = tuple(tuple(_logged(log[place].get(name)) for name in names) for place in chosen)
    return Table(tuple(names), rows, first_number=0, last_number=len(names))


def _evenly(places: Sequence[int]) -> list[int]:
    return [places[at] for at in selected_steps(len(places), MOST_ROWS)] if places else []


def _logged(value: float | None) -> str:
    return f"{value:,}" if isinstance(value, int) else number(value)


def schedule_table(schedule: Schedule) -> Table:
    """Choose steps of the schedule, evenly."""
    steps = selected_steps(schedule.timesteps, STEPS_SHOWN)
    decibels, (first, second, *_) = snr_decibels(schedule), columns_of(schedule)
    rows = tuple(
        (moment_text(schedule, t), f"{first.values[t]:.4g}", f"{second.values[t]:.4g}", f"{decibels[t]:.1f}") for t in steps
    )
    return Table(("t", first.head, second.head, "SNR in dB"), rows, first_number=0, last_number=3)


def key_figures(run: Run) -> Facts:
    """List what a reader looks for first."""
    facts = [
        ("Steps", f"{run.step:,}"),
        ("Images seen", f"{run.images:,}"),
        ("Time in training", duration(run.seconds)),
        ("Parameters", "-" if run.parameters is None else quantity(run.parameters)),
    ]
    names = {"loss": "Loss", "held_out_loss": "Held-out loss"}
    return facts + [(label, number(run.last(name))) for name, label in names.items() if name in run.curves]


def subtitle(run: Run, info: Mapping[str, Any], schedule: str) -> str:
    """Say standing, data and device of a run in one line."""
    data = data_facts(info)
    count = data.get("train_images")
    images = f", {count:,} images" if isinstance(count, int) else ""
    parts = ["finished" if run.finished else "not finished", f"{_text(data.get('name', 'unknown data'))}{images}"]
    return " · ".join([*parts, f"{schedule} schedule", run.device, f"seed {run.seed}"])


def provenance(info: Mapping[str, Any]) -> Facts:
    """List run.json as lines: nested keys joined by dots; the moment of its creation as a date."""
    created, command = info.get("created"), info.get("command")
    first = [("created", moment(created))] if isinstance(created, float) else []
    if isinstance(command, list):
        first.append(("command", shlex.join(printable(str(part)) for part in command[:MOST_FACTS])))
    known = {name for name, _ in first}
    lines = first + list(_flat({key: value for key, value in info.items() if key not in known}, "", DEEPEST))
    more = [("…", f"{len(lines) - MOST_FACTS:,} more lines in run.json")] if len(lines) > MOST_FACTS else []
    return lines[:MOST_FACTS] + more


def moment(seconds: float) -> str:
    """Write seconds since 1970 as a date and time in UTC; a dash for what no calendar holds."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return "-"


def _flat(value: Any, name: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and depth:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{printable(key)}".lstrip("."), depth - 1)
    elif isinstance(value, list):
        yield name, ", ".join(map(_text, value[:MOST_FACTS])) or "-"
    else:
        yield name, _text(value)


def _text(value: Any) -> str:
    return "-" if value is None or value == "" else printable(str(value))


def figure_rows(figures: Sequence[StoredFigure]) -> list[tuple[list[str], str, Facts]]:
    """List for each figure metric, value, floor, images, step and date; how it was measured in a line; and all lines on it."""
    return [(_figure_cells(stored), *_protocol(stored)) for stored in figures]


def _protocol(stored: StoredFigure) -> tuple[str, Facts]:
    lines = [(label.strip(), text) for label, text in figure_lines(stored.figure)]
    named = dict(lines)
    return named.get("sampler") or named["images"], lines


def _figure_cells(stored: StoredFigure) -> list[str]:
    figure = stored.figure
    spread = next((f" ± {error:.2g}" for error in (figure.spread, figure.standard_error) if error is not None), "")
    weights = "EMA" if stored.ema else "last"
    return [
        figure.metric,
        f"{number(figure.value)}{spread} {figure.unit}".strip(),
        number(figure.floor),
        f"{figure.n:,}",
        f"{stored.step:,}, {weights}",
        moment(stored.created),
    ]


def incident_summary(incidents: Sequence[Incident]) -> str:
    """Count how many there were of each kind."""
    counts = Counter(incident.kind for incident in incidents)
    shown = f"; the first {MOST_INCIDENTS} are listed" if len(incidents) > MOST_INCIDENTS else ""
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.items()) + shown


def incident_table(incidents: Sequence[Incident]) -> Table:
    """List the incidents, up to MOST_INCIDENTS."""
    heads = ("Kind", "Step", "Loss", "Gradient norm", "t", "Images")
    rows = tuple(
        (
            incident.kind,
            f"{incident.step:,}" if incident.from_step is None else f"{incident.step:,} (from {incident.from_step:,})",
            number(incident.loss),
            number(incident.grad_norm),
            _numbers(incident.timesteps),
            _numbers(incident.images),
        )
        for incident in incidents[:MOST_INCIDENTS]
    )
    return Table(heads, rows, first_number=1, last_number=3)


def _numbers(values: Sequence[int]) -> str:
    rest = f" and {len(values) - MOST_NUMBERS:,} more" if len(values) > MOST_NUMBERS else ""
    return ", ".join(map(str, values[:MOST_NUMBERS])) + rest or "-"
