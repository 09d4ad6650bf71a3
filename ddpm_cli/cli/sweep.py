"""Run `ddpm sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddpm_cli.cli.compare import BaselineOption, GridsOption, ImagesOption
from ddpm_cli.cli.parsing.options import JsonOption, RunsOption, path_of


def sweep(
    file: Annotated[
        Path, typer.Argument(parser=path_of("FILE"), metavar="FILE", help="TOML file of the sweep.", show_default=False)
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name of the sweep's folder. The file's name if left out.", show_default=False),
    ] = None,
    out: RunsOption = Path("runs"),
    baseline: BaselineOption = None,
    grids: GridsOption = True,
    n: ImagesOption = 8,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, list the runs with the time that they will take, and stop.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Train every combination of settings in a file, and compare the results.

    The runs are trained one after another, then measured, then compared. An arm is one combination of settings.

    Runs go to runs/NAME/ARM-sSEED/. The same command goes on where it was stopped: finished runs and stored figures are kept.

    The file crosses the values in [grid], or names its arms, or does both. Nothing else is needed:

    \b
      preset = "quick"
      seeds = [0, 1, 2]                 # each arm is trained with each
      [base]                            # settings of all runs, as in a config file
      data = "fashion-mnist-10k"
      train.steps = 1000
      [grid]                            # keys as in --set
      schedule = ["linear", "cosine"]
      [arms.wide]                       # crossed with the grid
      model.base_channels = 64
      [arms.from-clothes]               # starts from the weights of a run
      start.weights = "quick-001"
      [evaluate]                        # as the options of ddpm evaluate
      metrics = ["fcd"]
      n = 2000
      [evaluate.grid]                   # sample.* settings, without training again
      sample.sampler.steps = [5, 10, 20]

    For example:

      ddpm sweep schedules.toml --dry-run

      ddpm sweep schedules.toml
    """
    from ddpm_cli.experiments.sweep_file import load_sweep

    wanted = load_sweep(file, name, out)

    from ddpm_cli.cli.compare import show
    from ddpm_cli.experiments.sweep_plan import plan_sweep
    from ddpm_cli.render.terminal.console import print_json, show_notices
    from ddpm_cli.render.terminal.sampling import SamplingView
    from ddpm_cli.render.terminal.sweep import SweepView, plan_json, show_plan

    checked = plan_sweep(wanted, runs=out, baseline=baseline, on_event=show_notices)
    plan = checked.plan
    if dry_run:
        if json:
            print_json(plan_json(plan))
        else:
            show_plan(plan)
        return
    from ddpm_cli.experiments.sweep import compare_sweep, require_all, run_sweep

    with SweepView() as view:
        failures = run_sweep(checked, on_event=view)
    with SamplingView() as view:
        found = compare_sweep(checked, failures, baseline=baseline, images=n if grids else 0, on_event=view)
    show(found, json)
    require_all(checked, failures)
