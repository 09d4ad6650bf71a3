"""Write trained models for other programs from Python: `export`."""

from __future__ import annotations

from pathlib import Path

from ddpm_cli.api.arguments import as_argument, as_given_path, as_path, as_text, as_whole
from ddpm_cli.api.training import Run
from ddpm_cli.core.names import as_known
from ddpm_cli.interop.export import export_model
from ddpm_cli.interop.registry import UNKNOWN_LICENSE, ExportOptions, known_formats
from ddpm_cli.render.terminal.console import show_notices
from ddpm_cli.results.events import Listener, ignore, together
from ddpm_cli.results.interchange import ExportResult


def export(
    run: Run | str | Path | None = None,
    format: str = "safetensors",
    out: str | Path | None = None,
    *,
    half: bool = False,
    check: bool = False,
    with_sampler: bool = False,
    steps: int | None = None,
    license: str = UNKNOWN_LICENSE,
    tuned: int | None = None,
    no_limits: bool = False,
    runs: str | Path = "runs",
    on_event: Listener = ignore,
) -> ExportResult:
    """Write the averaged weights of a model for another program, as `ddpm export` does, and check there what was written.

    Args:
        run: A run, its name below `runs`, its folder, one of its checkpoints, or an exported file; the newest run if None.
        format: "safetensors", "torch-export", "onnx", "diffusers", or one of another package; `ddpm ls formats` lists them.
        out: File to write, replaced as a whole, or for diffusers a new folder; named after the format if None.
        half: Store the weights as float16.
        check: For diffusers compare images of three samplers too.
        with_sampler: For onnx: a graph from noise to images, by DDIM.
        steps: Of that DDIM; the run's own, or 50, if None.
        license: Of the weights, for the model card of diffusers.
        tuned: For safetensors: make the tuned sampler of so many steps, see `tune_sampler`, the file's own.
        no_limits: Lift the limits on what the run or file may ask for.
        runs: The folder of runs.
        on_event: Told of `Notice`.
    Returns:
        What was written: `path`, `bytes`, and each comparison with its difference.
    Raises:
        RequestError: If the format, an option or the model does not go together with the others; nothing was written then.
        OutputError: If it cannot be written there.
        DdpmError: If what was written does not say what the model says; it was not kept.
    """
    name = as_known(as_text(format, "format"), known_formats())
    usual = known_formats()[name].file_name if name in known_formats() else "model"
    steps = None if steps is None else as_whole(steps, "steps")
    tuned = None if tuned is None else as_whole(tuned, "tuned")
    options = ExportOptions(half, check, with_sampler, steps, as_text(license, "license"), no_limits, tuned)
    return export_model(
        run.path if isinstance(run, Run) else as_path(run, "run"),
        name,
        as_path(out, "out") or Path(usual),
        options,
        runs=as_given_path(runs, "runs"),
        spelt=as_argument,
        on_event=together(show_notices, on_event),
    )
