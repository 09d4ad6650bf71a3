"""Log what went wrong with the numbers of a training in incidents.jsonl, one JSON object a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from ddpm_cli.results.events import Incident, IncidentKind
from ddpm_cli.runs.checkpoint_state import is_count
from ddpm_cli.runs.figures import finite
from ddpm_cli.runs.metrics_log import read_rows


def read_incidents(path: Path) -> list[Incident]:
    """Read the incidents in a file which anyone may have edited; lines that hold none are passed over.

    Raises:
        RunError: If it is no ordinary file or cannot be read.
    """
    return [incident for row in read_rows(path) if (incident := _incident(row))]


def _incident(row: dict[str, Any]) -> Incident | None:
    lists = [row.get(name, []) for name in ("timesteps", "images")]
    affected, from_step = row.get("affected", 0), row.get("from_step")
    sound = (
        row.get("kind") in get_args(IncidentKind)
        and all(isinstance(numbers, list) and all(map(is_count, numbers)) for numbers in lists)
        and is_count(affected)
        and (from_step is None or is_count(from_step))
    )
    if not sound:
        return None
    timesteps, images = map(tuple, lists)
    loss, grad_norm = finite(row.get("loss")), finite(row.get("grad_norm"))
    return Incident(row["kind"], row["step"], loss, grad_norm, timesteps, images, affected, from_step)
