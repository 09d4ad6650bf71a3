"""Tell what lies at a path that was given to be measured, or to be measured against. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from ddpm_cli.errors import RequestError
from ddpm_cli.runs.checkpoints import MANIFEST
from ddpm_cli.runs.run_directory import RunDirectory

Kind = Literal["arrays", "folder", "model"]
ARRAYS = (".npz", ".npy")
PIPELINE = "model_index.json"
RUN_FILE = RunDirectory(Path()).info_path.name


def kind_at(path: Path, runs: Path = Path("runs")) -> Kind | None:
    """Tell what lies at a path: a file of arrays, a folder that is no run, or a run, checkpoint or exported file.

    A run below `runs` goes before a folder of the same name, as wherever a run is named.

    Returns:
        None if there is nothing.
    Raises:
        RequestError: If it is the folder of a run's grids, which look like pictures and are none.
    """
    if len(path.parts) <= 2 and _is_model(runs / path):
        return "model"
    if os.path.isfile(path):
        return "arrays" if path.suffix.lower() in ARRAYS else "model"
    if not os.path.isdir(path):
        return None
    if _is_model(path) or any(path.glob(f"*/{RUN_FILE}")):  # a sweep, or a folder of runs: what they hold are grids
        return "model"
    above = RunDirectory(path.absolute().parent)
    if _is_model(above.path) and path.absolute() == above.samples_folder:
        raise RequestError(
            f"{path} holds grids of samples, which no metric can be measured of.",
            f"Write single images: ddpm sample {above.path.name} --n 1000 --npz samples.npz",
        )
    return "folder"


def is_given(path: Path, runs: Path = Path("runs")) -> bool:
    """Tell whether a path is of images rather than of a model."""
    return kind_at(path, runs) in ("arrays", "folder")


def _is_model(path: Path) -> bool:
    run = RunDirectory(path)
    marks = (run.info_path, run.config_path, path / MANIFEST, path / PIPELINE)
    return any(mark.is_file() for mark in marks) or run.checkpoints_folder.is_dir()
