"""Show the samplers that were tuned for a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ddpm_cli.render.terminal.console import json_value
from ddpm_cli.render.terminal.tables import show_table
from ddpm_cli.results.tuning import TunedSampler, Tuning

COLUMNS = (" steps", "sampler", " distance", "untuned", " distance", "visits")


def show_tuning(tuning: Tuning) -> None:
    """Print, for each number of steps, what was found beside what the model would take otherwise."""
    weights = "EMA" if tuning.ema else "last"
    title = f"samplers tuned for step {tuning.step:,} ({weights} weights), distance of {tuning.held_out:,} other images"
    show_table(title, COLUMNS, [_cells(found) for found in tuning.samplers])


def _cells(found: TunedSampler) -> tuple[str, ...]:
    visited = " ".join(map(str, found.sampler["spacing"]["timesteps"]))
    untuned = f"{_named(found.untuned)}, {found.untuned['spacing']['kind']}"
    return f"{found.steps}", _named(found.sampler), f"{found.distance:.4f}", untuned, f"{found.untuned_distance:.4f}", visited


def _named(sampler: Mapping[str, Any]) -> str:
    """A solver by its name and its order, where it has one."""
    return f"{sampler['kind']} {sampler['order']}" if "order" in sampler else str(sampler["kind"])


def tuning_json(tuning: Tuning) -> dict[str, Any]:
    """Write the same as a JSON object."""
    shown: dict[str, Any] = json_value(asdict(tuning))
    return shown
