"""Compare runs and write all files of the comparison: the one course of `ddpm compare`, `ddpm sweep` and Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_cli.core.compute.device import check_device
from ddpm_cli.core.io.files import adding_files, atomic_write, require_writable_folder, to_json
from ddpm_cli.experiments.compare import compare
from ddpm_cli.results.events import Listener, Notice, ignore
from ddpm_cli.runs.record import folder_of_runs
from ddpm_cli.runs.sweep_state import read_failures
from ddpm_cli.sampling.file_bounds import USUAL, Bounds

if TYPE_CHECKING:
    from ddpm_cli.results.comparison import Comparison


FILES = ("comparison.md", "comparison.json", "curves.png", "metrics.png", "grids.png")
"""All that a comparison can write."""


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """Say which runs to compare, and how.

    Attributes:
        runs: Run folders or names, or folders of runs.
        root: The folder of runs that names are looked for in.
        baseline: Arm or run that the others are judged against; the first finished if None.
        out: Folder for the files; the folder of runs itself where only one is named, else `comparison`, if None.
        seeds: Of images that are drawn of each run; none draws no grids.
        device: Where they are drawn.
        bounds: On what a run may ask for.
        fewer: What to do where that is too much, a sentence without its full stop; the options of `ddpm compare` if empty.
        title: Of the page; a usual one if empty.
        failures: Why runs failed, by name, besides what folders of sweeps tell.
        least: Runs that there must be, 1 or 2.
    """

    runs: Sequence[Path]
    root: Path = Path("runs")
    baseline: str | None = None
    out: Path | None = None
    seeds: Sequence[int] = range(8)
    device: str = "auto"
    bounds: Bounds = USUAL
    fewer: str = ""
    title: str = ""
    failures: Mapping[str, str] = field(default_factory=dict)
    least: int = 2


@dataclass(frozen=True)
class Compared:
    """Hold a comparison and where it is written.

    Attributes:
        comparison: What was found.
        folder: Where comparison.md, comparison.json and the pictures are.
        facts: The JSON object that was written.
        files: What was written; nothing of one run alone.
    """

    comparison: Comparison
    folder: Path
    facts: dict[str, Any]
    files: list[Path]


def compare_runs(request: CompareRequest, on_event: Listener = ignore) -> Compared:
    """Compare runs, draw their pictures, and write everything; nothing new is in the folder if something cannot be written.

    Args:
        request: Which runs, and how.
        on_event: Told of each denoising step, of runs that have nothing to draw from, and why nothing is written of one run.
    Raises:
        RequestError: If the runs, the baseline or the device cannot be had.
        OutputError: If the folder cannot be written.
    """
    sweeps = [folder for path in request.runs if (folder := folder_of_runs(path, request.root)) is not None]
    folder = request.out or (sweeps[0] if len(request.runs) == len(sweeps) == 1 else Path("comparison"))
    require_writable_folder(folder)
    if request.seeds:
        check_device(request.device)
    failures = {name: why for sweep in sweeps for name, why in read_failures(sweep).items()} | dict(request.failures)
    comparison = compare(request.runs, runs=request.root, baseline=request.baseline, failures=failures, least=request.least)
    if len(comparison.runs) == 1:
        where = comparison.runs[0].path
        for name in FILES:  # of when there were more runs
            (folder / name).unlink(missing_ok=True)
        on_event(Notice(f"One run tells nothing about others: no comparison is written. What was measured of it lies in {where}."))
        return Compared(comparison, folder, _facts(comparison, {}), [])
    title = request.title or f"Comparison of {len(comparison.runs)} runs"
    facts = _write(comparison, folder, title, request, on_event)
    files = [folder / name for name in ("comparison.md", "comparison.json", *facts["pictures"].values())]
    return Compared(comparison, folder, facts, files)


def _facts(comparison: Comparison, pictures: Mapping[str, str]) -> dict[str, Any]:
    from ddpm_cli.render.terminal.compare import comparison_json

    return comparison_json(comparison) | {"pictures": pictures}


def _write(comparison: Comparison, folder: Path, title: str, request: CompareRequest, on_event: Listener) -> dict[str, Any]:
    from ddpm_cli.experiments.compare_samples import FEWER, draw_rows
    from ddpm_cli.render.pictures.compare_plot import save_curves, save_metrics
    from ddpm_cli.render.pictures.images import save_named_rows
    from ddpm_cli.render.terminal.compare import to_markdown

    draw = partial(draw_rows, device=request.device, bounds=request.bounds, fewer=request.fewer or FEWER, on_event=on_event)
    rows = draw(comparison.arms, request.seeds) if request.seeds else []
    pictures = {"curves": "curves.png"}
    with adding_files(folder) as temporary:
        save_curves(comparison, temporary / "curves.png")
        if save_metrics(comparison, temporary / "metrics.png"):
            pictures["metrics"] = "metrics.png"
        if rows:
            pictures["grids"] = "grids.png"
            save_named_rows(temporary / "grids.png", rows)
        facts = _facts(comparison, pictures)
        atomic_write(temporary / "comparison.json", to_json(facts))
        atomic_write(temporary / "comparison.md", to_markdown(comparison, title, pictures))
    return facts
