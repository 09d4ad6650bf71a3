"""Run `ddpm speedrun`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddpm_cli.cli.parsing.options import JsonOption, RunsOption, path_of


def speedrun(
    record: Annotated[
        Path, typer.Argument(parser=path_of("RECORD"), metavar="RECORD", help="TOML file of the record.", show_default=False)
    ],
    clock: Annotated[
        str | None,
        typer.Option(
            "--clock",
            metavar="NAME",
            help="Clock: cpu-5min, gpu-3min or gpu-10min. The record's own if left out.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name of the folder. RECORD-CLOCK if left out.", show_default=False),
    ] = None,
    out: RunsOption = Path("runs"),
    extractor_weights: Annotated[
        Path | None,
        typer.Option(
            "--extractor-weights",
            parser=path_of("--extractor-weights"),
            metavar="FILE",
            help="Weights of the Inception network as .safetensors. They are downloaded if left out.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the rules, list the runs with the time that they will take, and stop.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Train a record for a clock's minutes with three seeds, and measure what comes of it.

    A record is a config with a section that says who made it. The clock fixes the data set, the minutes, the device, the seeds
    and how samples are measured. What breaks a rule is refused. The rules and the table of records are in examples/speedrun/.

    Runs and figures go to runs/NAME/. The same command goes on where it was stopped.

    \b
      preset = "quick"                  # as in a config file
      optimizer.lr = 5e-3
      [record]
      by = "Jane Doe"
      date = 2026-11-28
      note = "A larger learning rate."
      clock = "cpu-5min"

    For example:

      ddpm speedrun examples/speedrun/quick.toml --dry-run

      ddpm speedrun examples/speedrun/quick.toml
    """
    from ddpm_cli.experiments.speedrun_file import load_record

    made, by, sweep = load_record(record, clock, name, extractor_weights)

    from ddpm_cli.experiments.sweep_plan import plan_sweep
    from ddpm_cli.render.terminal.console import print_json, show_notices
    from ddpm_cli.render.terminal.sweep import SweepView, plan_json, show_plan

    checked = plan_sweep(sweep, runs=out, on_event=show_notices)
    if dry_run:
        if json:
            print_json(plan_json(checked.plan))
        else:
            show_plan(checked.plan)
        return
    from ddpm_cli.experiments.speedrun import run_speedrun, speedrun_json
    from ddpm_cli.render.terminal.sweep import show_speedrun

    with SweepView() as view:
        found = run_speedrun(made, by, checked, on_event=view)
    if json:
        print_json(speedrun_json(found))
    else:
        show_speedrun(found)
