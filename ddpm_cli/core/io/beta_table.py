"""Read betas from a user's file. Imports no torch."""

from __future__ import annotations

import csv
import io
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_cli.core.io.files import UnreadableError, input_errors, parse_json, printable, read_text
from ddpm_cli.diffusion.levels import Table
from ddpm_cli.diffusion.schedules import betas_from_alphas_cumprod
from ddpm_cli.errors import ScheduleError

NAMES = {"beta": "betas", "betas": "betas", "alpha_bar": "alpha_bar", "alphas_cumprod": "alpha_bar"}
"""Column names and keys that are understood; those that `inspect-schedule` writes are among them."""

MOST_ROWS = 100_000
"""The largest T that a config can name."""

REMEDY = 'Write a CSV column or a JSON list named "betas" or "alpha_bar".'


def read_schedule_table(path: Path, values: str | None = None, timesteps: int | None = None) -> Table:
    """Read the betas that a CSV or JSON file holds, as such or as alpha_bar.

    Args:
        path: JSON with a list under one of NAMES or a list alone; or CSV with one of NAMES in its first row, or one column alone.
        values: "betas" or "alpha_bar": which to take. If None, what the file names, betas first; one that names nothing is refused.
        timesteps: T; a table of another number of values is refused before these are looked at. None takes any number.
    Returns:
        Betas, float64, [T].
    Raises:
        ScheduleError: If the file cannot be read, says not what it holds, or its values make no schedule.
    """
    with input_errors(path, ScheduleError, REMEDY):
        text = read_text(path.resolve()).strip()
        # Neither bracket begins a CSV of numbers or names.
        columns = _from_json(parse_json(text)) if text[:1] in ("[", "{") else _from_csv(text)
        kind, column = _chosen(columns, values)
        require_length(str(path), len(column), timesteps)
        numbers = np.array([_number(value, t) for t, value in enumerate(column)])
    try:
        return betas_from_alphas_cumprod(numbers) if kind == "alpha_bar" else numbers
    except ScheduleError as error:
        raise ScheduleError(f"{path}: {error.message}", error.remedy) from error


Columns = dict[str, list[Any]]
"""Lists by what they hold; "" for one without a name."""


def _from_json(value: Any) -> Columns:
    if isinstance(value, list):
        return {"": value}
    return {NAMES[name]: column for name, column in value.items() if name in NAMES and isinstance(column, list)}


def _from_csv(text: str) -> Columns:
    try:
        reader = csv.reader(io.StringIO(text, newline=""))
        rows = list(islice((row for row in reader if row), MOST_ROWS + 2))  # one is the header
    except csv.Error as error:
        raise UnreadableError(f"is no CSV file ({error})") from error
    if len(rows) > MOST_ROWS + 1:
        raise UnreadableError(f"has more than {MOST_ROWS:,} rows, the most that a schedule can have")
    if not rows:
        raise UnreadableError("is empty")
    header = [name.strip().lower() for name in rows[0]]
    if not set(header) & NAMES.keys():
        if len(header) > 1:
            raise UnreadableError(f"has no column named {' or '.join(NAMES)}")
        return {"": [row[0] for row in rows]}
    short = next((number for number, row in enumerate(rows, 1) if len(row) != len(header)), None)
    if short is not None:
        raise UnreadableError(f"has {len(rows[short - 1])} cells in row {short}, but {len(header)} in the first")
    columns = zip(header, zip(*rows[1:], strict=True), strict=True) if len(rows) > 1 else ()
    return {NAMES[name]: list(column) for name, column in columns if name in NAMES}


def require_length(source: str, values: int, timesteps: int | None) -> None:
    """Refuse a table whose values are not one for each of T steps; None takes any number.

    Raises:
        ScheduleError: With the T to set.
    """
    if timesteps not in (None, values):
        raise ScheduleError(
            f"{source} has {values:,} values, but schedule.timesteps is {timesteps:,}.", f"Set schedule.timesteps = {values}."
        )


def _chosen(columns: Columns, values: str | None) -> tuple[str, list[Any]]:
    if "" in columns and values is None:
        raise UnreadableError("does not say whether its values are betas or alpha_bar; set schedule.values")
    wanted = [values] if values else ["betas", "alpha_bar"]
    found = next((name for name in [*wanted, ""] if name in columns), None)
    if found is None:
        raise UnreadableError(f"holds no {' and no '.join(wanted)}")
    if len(columns[found]) > MOST_ROWS:
        raise UnreadableError(f"has more than {MOST_ROWS:,} values, the most that a schedule can have")
    return found or str(values), columns[found]


def _number(value: Any, t: int) -> float:
    try:
        number = None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or not np.isfinite(number):
        shown = repr(value) if isinstance(value, str | float | bool | None) else ""
        found = printable(shown) if 0 < len(shown) < 40 else "no number"
        raise UnreadableError(f"has {found} at t = {t}, where a finite number must be")
    return number
