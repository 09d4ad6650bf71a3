"""Write a trained model in another program's format, and prove that the file says the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ddpm_cli.config.toml_text import to_toml
from ddpm_cli.engine.generate import TrainedModel, all_weights, load_trained, model_facts
from ddpm_cli.errors import DdpmError
from ddpm_cli.events import Listener, ignore
from ddpm_cli.export.safetensors import save_model_file
from ddpm_cli.export.torch_export import Denoiser, largest_difference, load_program, save_program
from ddpm_cli.files import replacing

TOLERANCE = {"safetensors": 0.0, "torch-export": 1e-4}


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        origin: The checkpoint that was exported.
        step: Optimizer steps that it was trained for.
        path: The file.
        bytes: Its size.
        largest_difference: Between its predictions and the original's on random input.
    """

    origin: Path
    step: int
    path: Path
    bytes: int
    largest_difference: float


def export_model(run: Path | None, kind: str, out: Path, *, runs: Path = Path("runs"), on_event: Listener = ignore) -> ExportResult:
    """Export the EMA weights of a run; the file replaces an older one only after it was compared with the original.

    Args:
        run: See `load_trained`.
        kind: safetensors or torch-export.
        out: The file.
        runs: The folder of runs.
        on_event: See `load_trained`.

    Raises:
        DdpmError: If the file, loaded again, does not predict what the original predicts.
        RequestError: If the run or the output path cannot be used.
    """
    trained = load_trained(run, torch.device("cpu"), runs=runs, on_event=on_event)
    with replacing(out) as temporary:
        copy = WRITERS[kind](trained, temporary)
        labels = None if trained.num_classes is None else trained.num_classes + 1
        difference = largest_difference(trained.network, copy, trained.image_shape, labels=labels)
        if not difference <= TOLERANCE[kind]:
            raise DdpmError(
                f"The exported file differs from {trained.origin} by {difference:.3g}.", "It was not kept; please report this."
            )
        size = temporary.stat().st_size
    return ExportResult(trained.origin, trained.step, out, size, difference)


def _write_safetensors(trained: TrainedModel, path: Path) -> Denoiser:
    save_model_file(path, all_weights(trained), model_facts(trained, to_toml(trained.config)))
    return load_trained(path, torch.device("cpu")).network


def _write_program(trained: TrainedModel, path: Path) -> Denoiser:
    example = torch.zeros(2, *trained.image_shape)
    save_program(trained.network, example, path, with_labels=trained.num_classes is not None)
    return load_program(path)


WRITERS: dict[str, Callable[[TrainedModel, Path], Denoiser]] = {"safetensors": _write_safetensors, "torch-export": _write_program}
