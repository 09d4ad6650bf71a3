"""Run `ddpm evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddpm_cli.cli.parsing.completion import kinds, metric_names, run_names
from ddpm_cli.cli.parsing.completion import listed as listing
from ddpm_cli.cli.parsing.options import (
    DeviceOption,
    EmaOption,
    JsonOption,
    NoLimitsOption,
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
    run: Annotated[
        Path | None,
        typer.Argument(
            parser=path_of("RUN"),
            metavar="RUN|IMAGES",
            help="Run folder or name, checkpoint, or exported file. Or images that any program has made: a folder of pictures, or "
            "an .npz or .npy file. The newest run if left out.",
            autocompletion=run_names,
            show_default=False,
        ),
    ] = None,
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
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            metavar="DATA",
            help="For IMAGES: the data set that they are measured against, as for `ddpm train`. A run has its own.",
            autocompletion=kinds("data"),
            show_default=False,
        ),
    ] = None,
    write_statistics: Annotated[
        Path | None,
        typer.Option(
            "--write-statistics",
            parser=path_of("--write-statistics"),
            metavar="FILE",
            help="For fid: also write mean and covariance of the reference's features, as mu and sigma in an .npz file that "
            "pytorch-fid and --reference read.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            parser=path_of("--out"),
            metavar="DIR",
            help="Folder for figures and pictures. RUN/evaluations if left out; nothing is kept of IMAGES then.",
            show_default=False,
        ),
    ] = None,
    ema: EmaOption = True,
    device: DeviceOption = None,
    sets: SetOption = None,
    no_limits: NoLimitsOption = False,
    json: JsonOption = False,
) -> None:
    """Measure a model: its samples against real images, or the likelihood of held-out images. Or measure images as they are.

    Figures are kept in RUN/evaluations/figures.jsonl, and the same request is answered from there. A command that was cut short
    goes on where it stopped. Under torchrun all processes draw samples.

    Images that any program has made are measured against --data or --reference, all of them or the first --n. There --set takes
    data.* alone.

    For example:

      ddpm evaluate runs/quick-001 --sampler ddim --steps 50 --repeats 3

      ddpm evaluate --metrics fid,kid,precision-recall --n 10000

      ddpm evaluate --metrics nearest,loss-per-timestep,bits-per-dim --json

      ddpm evaluate pictures --data photos --metrics fid,kid

      ddpm evaluate samples.npz --reference statistics.npz --metrics fid
    """
    from ddpm_cli.evaluation.evaluate import evaluate_run
    from ddpm_cli.metrics.registry import known_metrics
    from ddpm_cli.render.terminal.evaluate import EvaluateView
    from ddpm_cli.sampling.file_bounds import Bounds

    names = listed(metrics, known_metrics())
    with EvaluateView() as view:
        found = evaluate_run(
            run,
            names,
            asked,
            device=device or "auto",
            ema=ema,
            out=out,
            data=data,
            write_statistics=write_statistics,
            sets=sets or [],
            bounds=Bounds(lifted=no_limits),
            on_event=view,
        )
    if found.figures:
        show(found, ema, json)


def show(found: Evaluation, ema: bool, json: bool) -> None:
    """Print the figures and say where they are kept."""
    from dataclasses import asdict

    from ddpm_cli.evaluation.given.images import GivenImages
    from ddpm_cli.render.terminal.console import print_json, show_line
    from ddpm_cli.render.terminal.evaluate import show_figures

    measured = found.measured
    if json:
        if isinstance(measured, GivenImages):
            facts = {"images": measured.path, "n": measured.count, "sha256": measured.sha256}
        else:
            facts = {"model": measured.origin, "step": measured.step, "ema": ema}
        if found.statistics is not None:
            facts["statistics"] = found.statistics
        print_json(facts | {"figures": [asdict(figure) for figure in found.figures]})
    else:
        show_figures(found.figures)
    if found.statistics is not None:
        show_line("wrote:", "green", str(found.statistics))
    if found.folder is not None:
        show_line("kept in:", "green", str(found.folder))
