"""Write weights with the config beside them, one file that `ddpm sample` takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ddpm_cli.interop.same_noise import prediction_difference
from ddpm_cli.results.interchange import Comparison
from ddpm_cli.runs.model_file import save_model_file
from ddpm_cli.sampling.generate import all_weights, load_trained, model_facts

if TYPE_CHECKING:
    from ddpm_cli.interop.registry import ExportOptions
    from ddpm_cli.sampling.trained_model import TrainedModel


def write(trained: TrainedModel, path: Path, options: ExportOptions) -> list[Comparison]:
    """Write the file, load it again, and compare what both networks predict: they must be equal to the bit."""
    weights = all_weights(trained)
    if options.half:
        weights |= {name: weight.half() for name, weight in trained.network.state_dict().items()}
    save_model_file(path, weights, model_facts(trained, half=options.half))
    loaded = load_trained(path, torch.device("cpu")).network
    return [Comparison("prediction", prediction_difference(trained, loaded), 0.0)]
