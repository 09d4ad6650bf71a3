"""Add an export format: `ddpm export --format npz`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddpm_cli.interop.registry import ExportOptions, Format
from ddpm_cli.results.interchange import Comparison

if TYPE_CHECKING:
    from ddpm_cli.sampling.trained_model import TrainedModel


def write(trained: TrainedModel, path: Path, options: ExportOptions) -> list[Comparison]:
    """Write the weights by their names, read them again, and compare them: they must be equal to the bit."""
    weights = {name: tensor.numpy() for name, tensor in trained.network.state_dict().items()}
    with path.open("wb") as file:
        np.savez(file, **weights)
    with np.load(path) as read:
        differences = [np.abs(read[name] - weight).max() for name, weight in weights.items()]
    return [Comparison("weights", float(max(differences)), 0.0)]


NPZ = Format(name="npz", about="Weights by their names in a file of NumPy.", file_name="model.npz", write=write)
