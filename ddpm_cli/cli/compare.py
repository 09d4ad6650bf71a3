"""Run `ddpm compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddpm_cli.cli.parsing.completion import run_names
from ddpm_cli.cli.parsing.options import DeviceOption, JsonOption, NoLimitsOption, path_of
from ddpm_cli.sampling.request import MOST_COMPARED

if TYPE_CHECKING:
    from ddpm_cli.experiments.comparing import Compared

GridsOption = Annotated[bool, typer.Option("--grids/--no-grids", help="Draw images of every run from the same seeds.")]
ImagesOption = Annotated[
    int, typer.Option("--n", "-n", metavar="N", min=1, max=MOST_COMPARED, help="Images of each run in the grids.")
]
BaselineOption = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="NAME",
        help="Arm or run that the others are judged against. The first finished one if left out.",
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
            help="Folder for the files. If left out: comparison/, or the folder of runs that was given.",
            show_default=False,
        ),
    ] = None,
    grids: GridsOption = True,
    n: ImagesOption = 8,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Seed of the first image. Each further image has the next seed.")
    ] = 0,
    device: DeviceOption = None,
    no_limits: NoLimitsOption = False,
    json: JsonOption = False,
) -> None:
    """Put runs beside each other, and say whether they differ.

    The settings, losses, metrics, times, curves and images of the runs are compared.

    Runs that differ in nothing but train.seed are repeats of one arm. Arms with two or more seeds are compared by Welch's t-test,
    corrected for the number of arms (Holm). A single seed tells nothing.

    The command writes comparison.md, comparison.json, curves.png, metrics.png and grids.png.

    For example:

      ddpm compare quick-001 quick-002

      ddpm compare runs/schedules --baseline linear --no-grids

      ddpm compare quick-001 quick-002 --json
    """
    from ddpm_cli.experiments.comparing import CompareRequest, compare_runs
    from ddpm_cli.render.terminal.sampling import SamplingView
    from ddpm_cli.sampling.file_bounds import Bounds

    seeds, bounds = range(seed, seed + n) if grids else range(0), Bounds(lifted=no_limits)
    request = CompareRequest(runs=runs, baseline=baseline, out=out, seeds=seeds, device=device or "auto", bounds=bounds)
    with SamplingView() as view:
        found = compare_runs(request, view)
    show(found, json)


def show(found: Compared, json: bool) -> None:
    """Print the tables on stdout, and say on stderr what was written; or print the JSON object alone."""
    from ddpm_cli.render.terminal.compare import show_comparison
    from ddpm_cli.render.terminal.console import print_json, show_line

    if json:
        print_json(found.facts)
        return
    show_comparison(found.comparison)
    for path in found.files:
        show_line("wrote:", "green", str(path))
