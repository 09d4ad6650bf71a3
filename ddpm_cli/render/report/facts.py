"""What a report says in words and numbers, as text; the page escapes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ddpm_cli.files import printable
from ddpm_cli.render.compare_tables import number
from ddpm_cli.render.evaluate import figure_lines
from ddpm_cli.render.format import duration, quantity

if TYPE_CHECKING:
    from ddpm_cli.comparison import Run
    from ddpm_cli.events import Incident
    from ddpm_cli.runs.figures import StoredFigure

Facts = list[tuple[str, str]]

MOST_FACTS = 200
DEEPEST = 4
MOST_INCIDENTS = 100
MOST_NUMBERS = 5
"""Of a list that an incident names."""


def key_figures(run: Run) -> Facts:
    """What a reader looks for first."""
    facts = [
        ("steps", f"{run.step:,}"),
        ("images seen", f"{run.images:,}"),
        ("time in training", duration(run.seconds)),
        ("parameters", "-" if run.parameters is None else quantity(run.parameters)),
    ]
    names = {"loss": "loss", "held_out_loss": "held-out loss"}
    return facts + [(label, number(run.last(name))) for name, label in names.items() if name in run.curves]


def subtitle(run: Run, info: Mapping[str, Any], schedule: str) -> str:
    """Standing, data and device of a run in one line."""
    data = info.get("data")
    data = data if isinstance(data, dict) else {}
    count = data.get("train_images")
    images = f", {count:,} images" if isinstance(count, int) else ""
    parts = ["finished" if run.finished else "not finished", f"{_text(data.get('name', 'unknown data'))}{images}"]
    return " · ".join([*parts, f"{schedule} schedule", run.device, f"seed {run.seed}"])


def provenance(info: Mapping[str, Any]) -> Facts:
    """run.json as lines: nested keys joined by dots; the moment of its creation as a date."""
    created = info.get("created")
    first = [("created", moment(created))] if isinstance(created, float) else []
    rest = {key: value for key, value in info.items() if key != "created" or not first}
    lines = list(_flat(rest, "", DEEPEST))
    more = [("…", f"{len(lines) - MOST_FACTS:,} more lines in run.json")] if len(lines) > MOST_FACTS else []
    return first + lines[:MOST_FACTS] + more


def moment(seconds: float) -> str:
    """Seconds since 1970 as a date and time in UTC; a dash for what no calendar holds."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return "-"


def _flat(value: Any, name: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and depth:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{printable(key)}".lstrip("."), depth - 1)
    elif isinstance(value, list):
        yield name, printable(", ".join(map(_text, value[:MOST_FACTS]))) or "-"
    else:
        yield name, _text(value)


def _text(value: Any) -> str:
    return "-" if value is None or value == "" else printable(str(value))


def figure_rows(figures: Sequence[StoredFigure]) -> list[tuple[list[str], Facts]]:
    """Of each figure the cells metric, value, floor, samples or images, step and date, and the lines that say how it was measured."""
    return [(_figure_cells(stored), figure_lines(stored.figure)) for stored in figures]


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
    """How many there were of each kind."""
    counts = Counter(incident.kind for incident in incidents)
    shown = f"; the first {MOST_INCIDENTS} are listed" if len(incidents) > MOST_INCIDENTS else ""
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.items()) + shown


def incident_rows(incidents: Sequence[Incident]) -> list[list[str]]:
    """Of each incident the cells kind, step, loss, gradient norm, timesteps and images."""
    return [
        [
            incident.kind,
            f"{incident.step:,}" if incident.from_step is None else f"{incident.step:,} (from {incident.from_step:,})",
            number(incident.loss),
            number(incident.grad_norm),
            _numbers(incident.timesteps),
            _numbers(incident.images),
        ]
        for incident in incidents[:MOST_INCIDENTS]
    ]


def _numbers(values: Sequence[int]) -> str:
    rest = f" and {len(values) - MOST_NUMBERS:,} more" if len(values) > MOST_NUMBERS else ""
    return ", ".join(map(str, values[:MOST_NUMBERS])) + rest or "-"
