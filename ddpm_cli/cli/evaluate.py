"""Run `ddpm evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddpm_cli.cli.parsing.completion import listed as listing
from ddpm_cli.cli.parsing.completion import metric_names
from ddpm_cli.cli.parsing.options import (
    DeviceOption,
    EmaOption,
    JsonOption,
    NoLimitsOption,
    RunArgument,
    SetOption,
    path_of,
)
from ddpm_cli.cli.parsing.spread import with_request
from ddpm_cli.core.names import listed
from ddpm_cli.evaluation.settings import USUALLY, Measuring

if TYPE_CHECKING:
    from ddpm_cli.evaluation.evaluate import Evaluation


@with_request("asked", Measuring, usually=USUALLY)
def evaluate(
    run: RunArgument = None,
    metrics: Annotated[
        str,
        typer.Option(
            "--metrics",
            "-m",
            metavar="LIST",
            help="Names of metrics, separated by commas. They are listed below.",
            autocompletion=listing(metric_names),
        ),
    ] = "fcd",
    *,
    asked: Measuring,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            parser=path_of("--out"),
            metavar="DIR",
            help="Folder for figures and pictures. RUN/evaluations if left out.",
            show_default=False,
        ),
    ] = None,
    ema: EmaOption = True,
    device: DeviceOption = None,
    sets: SetOption = None,
    no_limits: NoLimitsOption = False,
    json: JsonOption = False,
) -> None:
    """Measure a model: its samples against real images, or the likelihood of held-out images.

    Figures are kept in RUN/evaluations/figures.jsonl, and the same request is answered from there. A command that was cut short
    goes on where it stopped. Under torchrun all processes draw samples.

    For example:

      ddpm evaluate runs/quick-001 --sampler ddim --steps 50 --repeats 3

      ddpm evaluate --metrics fid,kid,precision-recall --n 10000

      ddpm evaluate --metrics nearest,loss-per-timestep,bits-per-dim --json
    """
    from ddpm_cli.cli.parsing.requests import require_sample_settings
    from ddpm_cli.evaluation.evaluate import evaluate_run
    from ddpm_cli.metrics.registry import known_metrics
    from ddpm_cli.render.terminal.evaluate import EvaluateView
    from ddpm_cli.sampling.file_bounds import Bounds

    require_sample_settings(sets or [])
    names = listed(metrics, known_metrics())
    with EvaluateView() as view:
        found = evaluate_run(
            run,
            names,
            asked,
            device=device or "auto",
            ema=ema,
            out=out,
            sets=sets or [],
            bounds=Bounds(lifted=no_limits),
            on_event=view,
        )
    if found.figures:
        show(found, ema, json)


def show(found: Evaluation, ema: bool, json: bool) -> None:
    """Print the figures and say where they are kept."""
    from dataclasses import asdict

    from ddpm_cli.render.terminal.console import print_json, show_line
    from ddpm_cli.render.terminal.evaluate import show_figures

    trained = found.trained
    if json:
        facts = {"model": trained.origin, "step": trained.step, "ema": ema}
        print_json(facts | {"figures": [asdict(figure) for figure in found.figures]})
    else:
        show_figures(found.figures)
    if found.folder is not None:
        show_line("kept in:", "green", str(found.folder))
