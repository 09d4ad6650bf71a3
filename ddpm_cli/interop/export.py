"""Write a trained model in another program's format, and prove that it says the same there.

What is wrong with a request is found before torch is imported, as far as that can be: heavy imports stay inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.core.io.files import bytes_below, new_folder, replacing
from ddpm_cli.errors import DdpmError
from ddpm_cli.interop.export_request import FOLDERS, ExportOptions, check_request, ddim_of
from ddpm_cli.results.events import Listener, ignore
from ddpm_cli.results.interchange import Comparison, ExportResult
from ddpm_cli.sampling.file_bounds import Bounds
from ddpm_cli.sampling.stored_model import find_model

if TYPE_CHECKING:
    from ddpm_cli.sampling.bounds import Demand
    from ddpm_cli.sampling.trained_model import TrainedModel

PROGRAM_TOLERANCE = 1e-4
FEWER = "Take fewer steps, if they are those of a sampler (--steps)"
COMPARED = 4
FEW_EVALUATIONS = 20
"""Images, and evaluations of the network for each, by which what was written is compared."""


def export_model(
    run: Path | None,
    kind: str,
    out: Path,
    options: ExportOptions | None = None,
    *,
    runs: Path = Path("runs"),
    on_event: Listener = ignore,
) -> ExportResult:
    """Export the EMA weights of a run; what is written gets its name only after it was compared with the original.

    Args:
        run: See `load_trained`.
        kind: One of FORMATS.
        out: The file, which is replaced, or for diffusers the folder, which must be new.
        options: What to write; the defaults if None.
        runs: The folder of runs.
        on_event: See `load_trained`.

    Raises:
        DdpmError: If what was written does not say what the original says.
        RequestError: If the run or the output path cannot be used, or the format cannot hold the model.
    """
    options = options or ExportOptions()
    check_request(kind, out, options)
    found = find_model(run, runs=runs, on_event=on_event)
    if options.with_sampler:
        ddim_of(found.config, options.steps)

    import torch

    from ddpm_cli.interop.half import rounded
    from ddpm_cli.sampling.bounds import require_affordable
    from ddpm_cli.sampling.generate import load_model

    trained = load_model(found, torch.device("cpu"), on_event=on_event)
    require_affordable(trained, trained.config.sample, _demand(trained, options), Bounds(lifted=options.no_limits), on_event)
    trained, rounding = rounded(trained) if options.half else (trained, None)
    with (new_folder if kind in FOLDERS else replacing)(out) as temporary:
        comparisons = WRITERS[kind](trained, temporary, options)
        for comparison in comparisons:
            if not comparison.holds:
                raise DdpmError(
                    f"The export differs from {trained.origin} by {comparison.difference:.3g} ({comparison.what}), more than "
                    f"{comparison.tolerance:g}.",
                    "It was not kept; please report this.",
                )
        size = bytes_below(temporary)
    return ExportResult(trained.origin, trained.step, out, size, tuple(comparisons), rounding)


def _demand(trained: TrainedModel, options: ExportOptions) -> Demand:
    """What is computed to compare what was written with the original."""
    from ddpm_cli.sampling.bounds import Demand

    T = trained.schedule.timesteps
    steps = ddim_of(trained.config, options.steps).number_of_steps(T) if options.with_sampler else 0
    return Demand(COMPARED, FEW_EVALUATIONS + steps, images_from_file=True, at_once=COMPARED, fewer=FEWER)


def _write_safetensors(trained: TrainedModel, path: Path, options: ExportOptions) -> list[Comparison]:
    import torch

    from ddpm_cli.interop.same_noise import prediction_difference
    from ddpm_cli.runs.model_file import save_model_file
    from ddpm_cli.sampling.generate import all_weights, load_trained, model_facts

    weights = all_weights(trained)
    if options.half:
        weights |= {name: weight.half() for name, weight in trained.network.state_dict().items()}
    save_model_file(path, weights, model_facts(trained, half=options.half))
    loaded = load_trained(path, torch.device("cpu")).network
    return [Comparison("prediction", prediction_difference(trained, loaded), 0.0)]


def _write_program(trained: TrainedModel, path: Path, options: ExportOptions) -> list[Comparison]:
    import torch

    from ddpm_cli.interop.formats.torch_export import load_program, save_program
    from ddpm_cli.interop.half import HalfWeights
    from ddpm_cli.interop.same_noise import prediction_difference

    network = HalfWeights(trained.network) if options.half else trained.network
    save_program(network, torch.zeros(2, *trained.image_shape), path, with_labels=trained.num_classes is not None)
    return [Comparison("prediction in torch.export", prediction_difference(trained, load_program(path)), PROGRAM_TOLERANCE)]


def _write_onnx(trained: TrainedModel, path: Path, options: ExportOptions) -> list[Comparison]:
    from ddpm_cli.interop.onnx_denoiser import write_onnx, write_onnx_sampler

    if options.with_sampler:
        return write_onnx_sampler(trained, path, options.steps, half=options.half)
    return write_onnx(trained, path, half=options.half)


def _write_diffusers(trained: TrainedModel, folder: Path, options: ExportOptions) -> list[Comparison]:
    from ddpm_cli.interop.diffusers.export import compare_diffusers, write_diffusers

    write_diffusers(trained, folder, options.license_name, half=options.half)
    return compare_diffusers(trained, folder, images=options.check)


WRITERS: dict[str, Callable[[TrainedModel, Path, ExportOptions], list[Comparison]]] = {
    "safetensors": _write_safetensors,
    "torch-export": _write_program,
    "onnx": _write_onnx,
    "diffusers": _write_diffusers,
}
