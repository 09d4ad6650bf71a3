"""Write a trained model in another program's format, and prove that it says the same there.

What is wrong with a request is found before torch is imported, as far as that can be: heavy imports stay inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.core.asking import as_option
from ddpm_cli.core.io.files import bytes_below, new_folder, replacing
from ddpm_cli.errors import DdpmError
from ddpm_cli.interop.export_request import check_request, ddim_of
from ddpm_cli.interop.registry import ExportOptions, known_formats
from ddpm_cli.results.events import Listener, Notice, ignore
from ddpm_cli.results.interchange import ExportResult
from ddpm_cli.sampling.file_bounds import Bounds
from ddpm_cli.sampling.request import TUNED, settings_of
from ddpm_cli.sampling.stored_model import find_model
from ddpm_cli.sampling.tuning.store import tuned_lists

if TYPE_CHECKING:
    from ddpm_cli.sampling.bounds import Demand
    from ddpm_cli.sampling.trained_model import TrainedModel

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
    spelt: Callable[[str], str] = as_option,
    on_event: Listener = ignore,
) -> ExportResult:
    """Export the EMA weights of a run; what is written gets its name only after it was compared with the original.

    Args:
        run: See `load_trained`.
        kind: Name of a format.
        out: The file, which is replaced, or the folder, which must be new.
        options: What to write; the defaults if None.
        runs: The folder of runs.
        spelt: See `check_request`.
        on_event: See `load_trained`.

    Raises:
        DdpmError: If what was written does not say what the original says.
        RequestError: If the run or the output path cannot be used, or the format cannot hold the model.
    """
    options = options or ExportOptions()
    check_request(kind, out, options, spelt)
    found = find_model(run, runs=runs, on_event=on_event)
    if options.with_sampler:
        ddim_of(found.config, options.steps, spelt)
    if options.tuned is not None:
        sample = settings_of(found, {"sampler": TUNED, "steps": options.tuned}, spelt=_of_tuned(spelt), on_event=on_event)
        found = replace(found, config=found.config.model_copy(update={"sample": sample}))

    import torch

    from ddpm_cli.interop.half import rounded
    from ddpm_cli.sampling.bounds import require_affordable
    from ddpm_cli.sampling.generate import load_model

    trained = load_model(found, torch.device("cpu"), on_event=on_event)
    bounds = Bounds(lifted=options.no_limits, spelt=spelt)
    require_affordable(trained, trained.config.sample, _demand(trained, options, spelt), bounds, on_event)
    trained, rounding = rounded(trained) if options.half else (trained, None)
    chosen = known_formats()[kind]
    with (new_folder if chosen.is_folder else replacing)(out) as temporary:
        comparisons = chosen.write(trained, temporary, options)
        for comparison in comparisons:
            if not comparison.holds:
                raise DdpmError(
                    f"The export differs from {trained.origin} by {comparison.difference:.3g} ({comparison.what}), more than "
                    f"{comparison.tolerance:g}.",
                    "It was not kept; please report this.",
                )
        size = bytes_below(temporary)
    if not chosen.keeps_tuning and (lists := tuned_lists(trained.origin)):
        told = f"The format {kind} has no place for the steps that ddpm tune-sampler has found: {'; '.join(lists)}."
        on_event(Notice(f"{told} A file of the format safetensors or onnx holds them.", important=True))
    path = trained.config.sample.path
    if not chosen.keeps_tuning and not path.is_own:
        on_event(
            Notice(f"The format {kind} has no place for sample.path = {path.kind}, along which the run is sampled.", important=True)
        )
    return ExportResult(trained.origin, trained.step, out, size, tuple(comparisons), rounding)


def _of_tuned(spelt: Callable[[str], str]) -> Callable[[str], str]:
    """Spell the number of steps as the option that names it here."""
    return lambda name: spelt("tuned" if name == "steps" else name)


def _demand(trained: TrainedModel, options: ExportOptions, spelt: Callable[[str], str]) -> Demand:
    """What is computed to compare what was written with the original."""
    from ddpm_cli.sampling.bounds import Demand

    T = trained.schedule.timesteps
    steps = ddim_of(trained.config, options.steps).number_of_steps(T) if options.with_sampler else 0
    fewer = f"Take fewer steps, if they are those of a sampler ({spelt('steps')})"
    return Demand(COMPARED, FEW_EVALUATIONS + steps, images_from_file=True, at_once=COMPARED, fewer=fewer)
