"""`ddpm export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddpm_cli.cli.options import JsonOption, OutOption, RunArgument

SUFFIXES = {"safetensors": ".safetensors", "torch-export": ".pt2"}


def export(
    run: RunArgument = None,
    format: Annotated[str, typer.Option("--format", "-f", metavar="NAME", help="safetensors or torch-export.")] = "safetensors",
    out: OutOption = None,
    json: JsonOption = False,
) -> None:
    """Write the EMA weights of a run to one file, and check the file against the run before saying so.

    safetensors: weights with the config beside them, one file that `ddpm sample` takes.
    torch-export: the denoiser as a program, (x_t, t) to its prediction, with any batch size; it runs without ddpm. A model that
    was trained with class labels takes (x_t, t, labels), where the label after the last class stands for any class. With the
    parameterization edm it takes (c_in x_t, c_noise); where the variance was learned it gives twice the channels.

    For example:

      ddpm export --format safetensors --out model.safetensors

      ddpm export runs/quick-001 --format torch-export --out denoiser.pt2
    """
    from ddpm_cli.errors import RequestError

    if format not in SUFFIXES:
        raise RequestError(f"There is no export format {format!r}.", f"Formats: {', '.join(SUFFIXES)}.")

    from ddpm_cli.files import require_writable_parent

    out = Path(f"model{SUFFIXES[format]}") if out is None else out
    require_writable_parent(out)

    from ddpm_cli.engine.export import export_model
    from ddpm_cli.render.console import print_json, show_line, show_notices

    result = export_model(run, format, out, on_event=show_notices)
    show_line("model:", "cyan", f"{result.origin} (step {result.step:,}, EMA weights)")
    show_line("wrote:", "green", f"{result.path} ({result.bytes / 1e6:.2f} MB)")
    show_line("checked:", "green", f"largest difference on random input {result.largest_difference:.3g}")
    if json:
        print_json(
            {
                "format": format,
                "model": str(result.origin),
                "step": result.step,
                "file": str(result.path),
                "bytes": result.bytes,
                "largest_difference": result.largest_difference,
            }
        )
