"""Tell how a run was launched, part by part, as its run.json has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddpm_cli.errors import RunError
from ddpm_cli.runs.checkpoint_state import is_count
from ddpm_cli.runs.directory import read_info, write_info
from ddpm_cli.runs.run_directory import RunDirectory

LAUNCHES = "launches"
"""In run.json: each launch that differs from the one before, with the step from which on it trained."""


def last_launch(run: RunDirectory) -> dict[str, Any] | None:
    """Find the newest launch that run.json tells of; None if it tells of none."""
    try:
        known = launches(read_info(run))
    except RunError:
        return None
    return _without_step(known[-1]) if known else None


def launches(info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the launches that a run.json tells of, each with its first step; none if it tells of something else there."""
    found = info.get(LAUNCHES)
    sound = isinstance(found, list) and all(isinstance(one, dict) and is_count(one.get("step")) for one in found)
    return list(found) if sound and found else []


def record_launch(run: RunDirectory, step: int, now: Mapping[str, Any]) -> None:
    """Keep in run.json how a run goes on from a step, if otherwise than before; what was trained further before is forgotten.

    Raises:
        OutputError: If it cannot be written.
    """
    try:
        info = read_info(run)
    except RunError:  # it is damaged: the checkpoints tell how they were made
        return
    kept = [one for one in launches(info) if one["step"] < step]
    if not kept or _without_step(kept[-1]) != now:
        kept.append({"step": step, **now})
    if kept != info.get(LAUNCHES):
        write_info(run, {**info, LAUNCHES: kept})


def _without_step(one: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key != "step"}
