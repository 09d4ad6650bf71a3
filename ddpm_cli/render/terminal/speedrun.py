"""Show what a speedrun came to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from ddpm_cli.render.terminal.console import results, show_line
from ddpm_cli.render.terminal.tables import show_table

if TYPE_CHECKING:
    from ddpm_cli.results.speedrun import Speedrun


def show_speedrun(speedrun: Speedrun) -> None:
    """Print each seed and the figure of the record on stdout."""
    clock, record = speedrun.clock, speedrun.record
    rows = [
        (str(run.seed), f"{run.steps:,}", f"{run.images:,}", f"{run.seconds / 60:.2f}", f"{run.value:.3f}") for run in speedrun.runs
    ]
    show_table(f"{record.file.stem} on {clock.name}", ("seed", " steps", " images", " minutes", f" {clock.metric}"), rows)
    floor = "" if speedrun.floor is None else f", real images have {speedrun.floor:.3f}"
    measured = f"mean and standard deviation of {len(speedrun.runs)} seeds, {clock.n:,} samples each{floor}"
    where = f"{speedrun.device} with {speedrun.threads} threads"
    results.print(Text(f"{clock.metric} {speedrun.mean:.3f} ± {speedrun.spread:.3f} ({measured}), on {where}."))
    show_line("kept in:", "green", str(speedrun.file))
