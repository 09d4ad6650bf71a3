"""figures.jsonl: the figures of merit that were measured, one JSON object a line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ddpm_cli.events import Figure
from ddpm_cli.runs.metrics_log import MetricsLog, read_rows

FILE = "figures.jsonl"


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
    """The figures that were stored last under a key; none if there are none.

    Raises:
        RunError: If the file cannot be read.
    """
    rows = [row for row in read_rows(folder / FILE) if row.get("key") == key]
    newest = {figure.metric: figure for figure in map(figure_of, rows) if figure}
    return list(newest.values())


def figure_of(row: dict[str, Any]) -> Figure | None:
    """The figure in one line of the file; None for a line that holds none, such as one of a newer program."""
    try:
        values = {field.name: row[field.name] for field in fields(Figure)}
        return Figure(**values | {"notes": tuple(row["notes"]), "rows": tuple(row["rows"])})
    except (KeyError, TypeError):
        return None
