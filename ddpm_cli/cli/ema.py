"""Run `ddpm ema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddpm_cli.cli.parsing.options import JsonOption, ResumeArgument, path_of


def ema(
    run: ResumeArgument = None,
    width: Annotated[
        str,
        typer.Option(
            "--width",
            metavar="LIST",
            help="Widths of the averages, as shares of the training, above 0 and at most 0.28, separated by commas.",
        ),
    ] = "0.05",
    step: Annotated[
        int | None,
        typer.Option(
            "--step",
            metavar="N",
            help="Step at which the averages end. That of the newest checkpoint if left out.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            parser=path_of("--out"),
            metavar="FILE",
            help="File to write, for one width. RUN/averages/width-W-step-N.safetensors if left out.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a model of an average of the weights over any part of the training, after the training.

    A run that was trained with --set ema.widths=[0.05,0.1] keeps two such averages over the whole training. Any other is made
    of them (Karras et al. 2024, EDM2, Sec. 3). The file is taken by sample, evaluate and export. What evaluate measures of a
    file that lies in its run is kept with the run: report and compare draw it over the width.

    For example:

      ddpm ema runs/quick-001 --width 0.05

      ddpm ema --width 0.03,0.05,0.1,0.2

      ddpm ema runs/quick-001 --width 0.1 --step 2000 --out early.safetensors
    """
    from dataclasses import asdict

    from ddpm_cli.render.terminal.console import print_json, show_line, show_notices
    from ddpm_cli.training.averages.making import make_averages, parse_widths

    made = make_averages(run, list(parse_widths(width)), step, out, on_event=show_notices)
    for one in made:
        show_line("wrote:", "green", f"{one.path} (width {one.width:g}, step {one.step:,}, off by {one.misfit:.2%})")
    if json:
        print_json({"models": [asdict(one) for one in made]})
