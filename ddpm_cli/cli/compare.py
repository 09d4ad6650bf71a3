"""`ddpm compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddpm_cli.cli.parsing.completion import run_names
from ddpm_cli.cli.parsing.options import DeviceOption, JsonOption, NoLimitsOption, path_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddpm_cli.experiments.compare_samples import Row
    from ddpm_cli.results.comparison import Comparison

GridsOption = Annotated[bool, typer.Option("--grids/--no-grids", help="Draw images of every run from the same seeds.")]
ImagesOption = Annotated[int, typer.Option("--n", "-n", metavar="N", min=1, max=1000, help="Images of each run in the grids.")]
BaselineOption = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="NAME",
        help="Arm or run that the others are judged against; the first finished if left out.",
        show_default=False,
    ),
]


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            parser=path_of("RUN"),
            metavar="RUN...",
            help="Two or more run folders or names, or a folder of runs.",
            autocompletion=run_names,
            show_default=False,
        ),
    ],
    baseline: BaselineOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            parser=path_of("--out"),
            metavar="DIR",
            help="Folder for the files; comparison/, or the folder of runs itself.",
            show_default=False,
        ),
    ] = None,
    grids: GridsOption = True,
    n: ImagesOption = 8,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of the first image; the next has the next.")] = 0,
    device: DeviceOption = None,
    no_limits: NoLimitsOption = False,
    json: JsonOption = False,
) -> None:
    """Put runs beside each other: settings, losses, metrics, time, curves and images, and say whether they differ.

    Runs that differ in nothing but train.seed are repeats of one arm. Arms with two or more seeds are compared by Welch's t-test,
    corrected for the number of arms (Holm); a single seed tells nothing.

    Writes comparison.md, comparison.json, curves.png, metrics.png and grids.png.

    For example:

      ddpm compare quick-001 quick-002

      ddpm compare runs/schedules --baseline linear --no-grids

      ddpm compare quick-001 quick-002 --json
    """
    from ddpm_cli.core.compute.device import check_device
    from ddpm_cli.core.io.files import require_writable_folder
    from ddpm_cli.experiments.compare import compare as compare_runs
    from ddpm_cli.render.terminal.console import print_json
    from ddpm_cli.runs.record import folder_of_runs
    from ddpm_cli.runs.sweep_state import read_failures

    root = Path("runs")
    sweeps = [folder for path in runs if (folder := folder_of_runs(path, root)) is not None]
    folder = out or (sweeps[0] if len(runs) == len(sweeps) == 1 else Path("comparison"))
    require_writable_folder(folder)
    if grids:
        check_device(device or "auto")
    failures = {name: why for sweep in sweeps for name, why in read_failures(sweep).items()}
    comparison = compare_runs(runs, runs=root, baseline=baseline, failures=failures)
    seeds = range(seed, seed + n) if grids else range(0)
    title = f"Comparison of {len(comparison.runs)} runs"
    result = write_comparison(comparison, folder, seeds, device or "auto", title=title, no_limits=no_limits)
    if json:
        print_json(result)
        return
    show(comparison, folder, result)


def write_comparison(
    comparison: Comparison, folder: Path, seeds: Sequence[int], device: str, *, title: str, no_limits: bool
) -> dict[str, object]:
    """Write a comparison with its pictures; no grids without seeds, and none that take too long, unless there are no limits.

    Returns:
        The JSON object that was written.
    Raises:
        OutputError: If something cannot be written; then nothing new is in the folder.
    """
    from ddpm_cli.core.io.files import adding_files, atomic_write, to_json
    from ddpm_cli.render.pictures.compare_plot import save_curves, save_metrics
    from ddpm_cli.render.pictures.images import save_named_rows
    from ddpm_cli.render.terminal.compare import comparison_json, to_markdown

    rows = draw_rows(comparison, seeds, device, no_limits) if seeds else []
    pictures = {"curves": "curves.png"}
    with adding_files(folder) as temporary:
        save_curves(comparison, temporary / "curves.png")
        if save_metrics(comparison, temporary / "metrics.png"):
            pictures["metrics"] = "metrics.png"
        if rows:
            pictures["grids"] = "grids.png"
            save_named_rows(temporary / "grids.png", rows)
        result = comparison_json(comparison) | {"pictures": pictures}
        atomic_write(temporary / "comparison.json", to_json(result))
        atomic_write(temporary / "comparison.md", to_markdown(comparison, title, pictures))
    return result


def draw_rows(comparison: Comparison, seeds: Sequence[int], device: str, no_limits: bool) -> list[Row]:
    """Draw images of each run from the same seeds, with a bar."""
    from ddpm_cli.experiments.compare_samples import draw_rows as draw
    from ddpm_cli.render.terminal.sampling import SamplingView
    from ddpm_cli.sampling.file_bounds import Bounds

    with SamplingView() as view:
        return draw(comparison.arms, seeds, device=device, bounds=Bounds(lifted=no_limits), on_event=view)


def show(comparison: Comparison, folder: Path, result: dict[str, object]) -> None:
    """Print the tables on stdout, and say on stderr what was written."""
    from ddpm_cli.render.terminal.compare import show_comparison
    from ddpm_cli.render.terminal.console import show_line

    show_comparison(comparison)
    pictures = result["pictures"]
    for name in ("comparison.md", "comparison.json", *(pictures.values() if isinstance(pictures, dict) else ())):
        show_line("wrote:", "green", str(folder / name))
