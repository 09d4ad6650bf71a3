"""Run `ddpm export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddpm_cli.cli.parsing.completion import format_names
from ddpm_cli.cli.parsing.options import JsonOption, NoLimitsOption, RunArgument, path_of
from ddpm_cli.core.names import as_known


def export(
    run: RunArgument = None,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            metavar="NAME",
            help="What to write. The formats are listed below.",
            autocompletion=format_names,
        ),
    ] = "safetensors",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            parser=path_of("--out"),
            metavar="PATH",
            help="File to write. An older file is replaced as a whole. For diffusers: a new folder.",
            show_default=False,
        ),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store the weights as float16, in half the bytes.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Print what was compared. For diffusers: compare images of three samplers too.")
    ] = False,
    with_sampler: Annotated[
        bool, typer.Option("--with-sampler", help="For onnx: write a graph that goes from noise to images, by DDIM.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            metavar="N",
            help="With --with-sampler: steps of DDIM. If left out: the run's own number, or 50. A distilled model takes 1.",
            show_default=False,
        ),
    ] = None,
    license: Annotated[
        str, typer.Option("--license", metavar="NAME", help="License of the weights, for the model card.")
    ] = "unknown",
    tuned: Annotated[
        int | None,
        typer.Option(
            "--tuned",
            metavar="N",
            help="For safetensors: make the tuned sampler of N steps (`ddpm tune-sampler`) the file's own.",
            show_default=False,
        ),
    ] = None,
    no_limits: NoLimitsOption = False,
    json: JsonOption = False,
) -> None:
    """Write the averaged weights (EMA) of a run for another program.

    The file is checked in that program before it gets its name.

    A program of torch-export takes (x_t, t) and any batch size. For a model that was trained with class labels it takes
    (x_t, t, labels), and the label after the last class stands for any class. With the parameterization edm it takes
    (c_in x_t, c_noise). If the variance was learned, it gives twice the channels.

    A graph of onnx has the inputs x, t and perhaps labels. With --with-sampler it goes from x_T to images in [-1, 1].

    If diffusers cannot hold a model, the error says why.

    With --half the file is compared with the rounded weights. The command says by how much rounding changes predictions.

    For example:

      ddpm export --format safetensors --out model.safetensors

      ddpm export runs/quick-001 --tuned 8 --out fast.safetensors

      ddpm export runs/quick-001 --format torch-export --out denoiser.pt2

      ddpm export --format onnx --with-sampler --steps 20 --out sampler.onnx

      ddpm export --format onnx --half --check --out denoiser.onnx
    """
    from ddpm_cli.interop.export_request import check_request
    from ddpm_cli.interop.registry import ExportOptions, known_formats

    options = ExportOptions(half, check, with_sampler, steps, license, no_limits, tuned)
    format = as_known(format, known_formats())
    if out is None:
        out = Path(known_formats()[format].file_name if format in known_formats() else "model")
    check_request(format, out, options)

    from ddpm_cli.interop.export import export_model
    from ddpm_cli.render.terminal.console import print_json, show_notices
    from ddpm_cli.render.terminal.export import export_json, show_export

    result = export_model(run, format, out, options, on_event=show_notices)
    show_export(result, table=check and not json)
    if json:
        print_json(export_json(result, format))
