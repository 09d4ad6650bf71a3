"""Read a pipeline of diffusers: what its network is, what it was trained on, and its weights by our names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_cli.build.network import build_network
from ddpm_cli.core.io.files import input_errors, read_json_object
from ddpm_cli.errors import CheckpointError, RequestError
from ddpm_cli.runs.checkpoint_state import checked_shape
from ddpm_cli.sampling.diffusers.scheduler import read_scheduler, scheduler_class
from ddpm_cli.sampling.diffusers.unet import read_unet
from ddpm_cli.sampling.diffusers.weights import DAMAGED, read_weights, weight_files

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm_cli.config.schema.config import Config

INDEX = "model_index.json"
NETWORK = "config.json"


@dataclass(frozen=True)
class Pipeline:
    """Hold what a pipeline says of itself, before its weights are read.

    Attributes:
        folder: Its own.
        files: That hold its weights.
        settings: Dotted keys of our config, and their values.
        image_shape: Channels, height and width of its images.
        cosines_first: Whether its time embedding has cosines before sines.
        differences: Sentences on what it samples otherwise.
    """

    folder: Path
    files: tuple[Path, ...]
    settings: Mapping[str, Any]
    image_shape: tuple[int, int, int]
    cosines_first: bool
    differences: tuple[str, ...]


def is_pipeline(folder: Path) -> bool:
    """Tell whether a folder looks like what diffusers saves."""
    return any((folder / name).is_file() for name in (INDEX, f"unet/{NETWORK}", NETWORK))


def find_pipeline(folder: Path, *, size: tuple[int, int] | None = None, variant: str | None = None) -> Pipeline:
    """Find a pipeline, and read all of it but its weights.

    Args:
        folder: The pipeline's, with unet/ and scheduler/, or with the files of both in itself.
        size: Height and width of its images, over what its `sample_size` says.
        variant: Which of several sets of weights, such as "fp16"; if None the one without a name, or the only one.
    Raises:
        RequestError: If it is no such pipeline, is damaged, or what ours cannot be.
    """
    unet, scheduler = _find(folder)
    files = weight_files(unet, variant)
    settings, shape, cosines_first = read_unet(_json(unet / NETWORK), unet / NETWORK, size)
    shape = checked_shape(list(shape), unet / NETWORK)
    sampling, differences = _read_scheduler(scheduler, folder / INDEX)
    return Pipeline(folder, files, settings | sampling, shape, cosines_first, differences)


def pipeline_weights(pipeline: Pipeline, config: Config) -> dict[str, Tensor]:
    """Read the weights by our names, float32, after all of them were found to be those of the config's network.

    Raises:
        CheckpointError: If they are not.
    """
    tensors = read_weights(pipeline.files)
    import torch

    from ddpm_cli.sampling.diffusers.unet2d_names import from_unet2d
    from ddpm_cli.sampling.generate import load_network

    with torch.device("meta"):
        expected = build_network(config, pipeline.image_shape)
    weights = from_unet2d(tensors, expected.state_dict(), cosines_first=pipeline.cosines_first)
    return load_network(config, pipeline.image_shape, weights, pipeline.files[0]).state_dict()


def _find(folder: Path) -> tuple[Path, Path]:
    """The folder of the network, and the file of the scheduler."""
    if folder.is_file():
        raise RequestError(f"{folder} is a file, not a folder.", "Name a folder that diffusers saved or that was downloaded.")
    if not folder.is_dir():
        raise RequestError(f"There is no folder {folder}.", "Name a folder that diffusers saved or that was downloaded.")
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    if not (unet / NETWORK).exists():
        raise RequestError(f"{folder} holds no pipeline of diffusers: {unet / NETWORK} is missing.", "Name another folder.")
    places = [folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json", unet / "scheduler_config.json"]
    scheduler = next((place for place in places if place.exists()), None)
    if scheduler is None:
        raise RequestError(
            f"{folder} has no scheduler_config.json, without which nobody knows what its network was trained on.",
            "Save the whole pipeline: pipeline.save_pretrained(DIR)",
        )
    return unet, scheduler


def _read_scheduler(scheduler: Path, index: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    described = _json(scheduler)
    name = scheduler_class(described, _json(index) if index.exists() else {}, scheduler)
    return read_scheduler(described, name, scheduler)


def _json(path: Path) -> dict[str, Any]:
    with input_errors(path, CheckpointError, DAMAGED):
        return read_json_object(path.resolve())  # a download of the Hub's is a folder of links
