"""Store the figures of merit that were measured in figures.jsonl, one JSON object a line."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from ddpm_cli.core.io.files import printable
from ddpm_cli.results.figure import Figure, StoredFigure
from ddpm_cli.runs.metrics_log import MetricsLog, read_rows
from ddpm_cli.runs.run_directory import RunDirectory

FILE = "figures.jsonl"

OF_SAMPLES = frozenset({"steps", "evaluations", "guidance"})
"""Numbers among the details of every figure of samples."""
TEXTS_OF_SAMPLES = frozenset({"sampler", "threshold", "extractor", "extractor_sha256"})
"""The other details that each of them has, but for figures of images that were given, which no sampler has drawn."""
UNCOUNTED = frozenset({"none", "statistics"})
"""Splits of no reference, and of statistics of images that may not be counted."""
OF_A_ROW = frozenset({"t_first", "t_last", "loss", "standard_error"})


def append_figures(folder: Path, figures: Sequence[Figure], key: str, step: int, ema: bool) -> None:
    """Store what one request gave; each line is the figure's fields with `key`, `step`, `ema` and `created`.

    Args:
        folder: The folder of evaluations, which must exist.
        figures: One or more.
        key: Of everything that they depend on.
        step: Optimizer steps that the model was trained for.
        ema: Whether the weights were the averaged ones.
    Raises:
        OutputError: If they cannot be written.
        ValueError: If a number is not finite.
    """
    facts = {"key": key, "step": step, "ema": ema, "created": time.time()}
    with MetricsLog(folder / FILE) as log:
        for figure in figures:
            log.append(asdict(figure) | facts)
        log.sync()


def stored_figures(folder: Path, key: str) -> list[Figure]:
    """Find the figures that were stored last under a key; none if there are none.

    Raises:
        RunError: If the file cannot be read.
    """
    rows = [row for row in read_rows(folder / FILE) if row.get("key") == key]
    newest = {figure.metric: figure for figure in map(figure_of, rows) if figure}
    return list(newest.values())


def read_figures(run: RunDirectory) -> tuple[StoredFigure, ...]:
    """Read what was measured of a run; as in a metrics log, pass over a line that a kill has torn.

    Raises:
        RunError: If the file cannot be read.
    """
    rows = read_rows(run.evaluations_folder / FILE)
    return tuple(stored for row in rows if (stored := _stored_figure(row)) is not None)


def figure_of(row: dict[str, Any]) -> Figure | None:
    """Read the figure in one line of the file, which anyone may have edited.

    Returns:
        It, without control characters in its texts; None for a line that holds none, such as one of a newer program.
    """
    try:
        values = {field.name: row[field.name] for field in fields(Figure)}
        figure = Figure(**values | {"notes": tuple(row["notes"]), "rows": tuple(row["rows"])})
    except (KeyError, TypeError):
        return None
    return _cleaned(figure) if _is_sound(figure) else None


def finite(value: Any) -> float | None:
    """Check that a number is one; JSON's true, text, NaN, infinity and what exceeds a float are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > sys.float_info.max:
        return None
    return None if math.isnan(value) else value


def _stored_figure(row: dict[str, Any]) -> StoredFigure | None:
    figure, created, ema = figure_of(row), finite(row.get("created")), row.get("ema")
    if figure is None or created is None or not isinstance(ema, bool):
        return None
    return StoredFigure(figure, row["step"], ema, created)


def _is_sound(figure: Figure) -> bool:
    texts = (figure.metric, figure.unit, figure.split, figure.data, figure.sha256)
    counts = (figure.n, figure.repeats, figure.seed)
    optional = (figure.standard_error, figure.spread, figure.floor)
    return (
        all(isinstance(text, str) for text in texts)
        and all(_is_whole(count) for count in counts)
        and all(value is None or finite(value) is not None for value in optional)
        and finite(figure.value) is not None
        and (figure.floor is None or _is_whole(figure.floor_n))
        and _are_numbers(figure.terms)
        and isinstance(figure.details, dict)
        and all(_are_numbers(row) and row.keys() >= OF_A_ROW for row in figure.rows)
        and ("sampler" not in figure.details or _tells_of_samples(figure.details, figure.split))
    )


def _tells_of_samples(details: Mapping[str, Any], split: str) -> bool:
    needed = OF_SAMPLES if split in UNCOUNTED else OF_SAMPLES | {"reference_images"}
    return details.keys() >= TEXTS_OF_SAMPLES and all(finite(details.get(name)) is not None for name in needed)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and finite(value) is not None


def _are_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(finite(number) is not None for number in value.values())


def _cleaned(figure: Figure) -> Figure:
    return replace(
        figure,
        metric=printable(figure.metric),
        unit=printable(figure.unit),
        terms={printable(name): value for name, value in figure.terms.items()},
        details={printable(name): _detail(value) for name, value in figure.details.items()},
        split=printable(figure.split),
        data=printable(figure.data),
        sha256=printable(figure.sha256),
        notes=tuple(printable(str(note)) for note in figure.notes),
    )


def _detail(value: Any) -> str | int | float:
    return value if finite(value) is not None else printable(str(value))
