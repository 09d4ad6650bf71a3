"""Read and write the small classifier whose features `fcd` is measured with, and the one that comes with this package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ValidationError, field_validator
from safetensors.torch import save
from torch import Tensor

from ddpm_cli.core.io.files import atomic_write
from ddpm_cli.core.io.tensor_files import content_sha256
from ddpm_cli.data.batches import normalise
from ddpm_cli.errors import CheckpointError, ShapeError
from ddpm_cli.metrics.classifier_fit import FittedClassifier, Task
from ddpm_cli.metrics.classifier_network import DIMENSIONS, SMALLEST_SIDE, Architecture, ClassifierNetwork, initialised
from ddpm_cli.metrics.features import Features, in_parts
from ddpm_cli.metrics.weights_file import load_strictly, read_weights

BUNDLED_NAME = "fashion-mnist-classifier-v1"
BUNDLED_SHA256 = "92fa1f3db8ae73c22379768270b4d3811d1306dd5842bdb4d8399d0a17fc908e"

_METADATA_KEY = "ddpm_classifier"
_LARGEST = 100_000
_REMEDY = "Name a file that `ddpm evaluate --fit-extractor` wrote."

_BATCH_SIZE = 256


class Description(BaseModel, frozen=True, extra="forbid", strict=True):
    """Hold what a classifier's file says of it.

    Attributes:
        version: Of the file's format.
        name: Of the classifier with its own version, for people.
        architecture: Shape of the images and number of classes.
        task: "classes" if it was taught the labels, "flips" if it was taught how images were mirrored.
        accuracy: On held-out images, in [0, 1]; None if there were none.
        data_sha256: Of the training images.
        weights_sha256: Of the weights, widened to float32; None in a file of an earlier version.
    """

    version: Literal[1] = 1
    name: str
    architecture: Architecture
    task: Task
    accuracy: float | None
    data_sha256: str
    weights_sha256: str | None = None

    @field_validator("architecture")
    @classmethod
    def _of_a_size_to_build(cls, architecture: Architecture) -> Architecture:
        # A stranger's file must not make us allocate without end.
        if min(architecture) < 1 or max(architecture) > _LARGEST or min(architecture[1:3]) < SMALLEST_SIDE:
            raise ValueError(f"numbers must lie in [1, {_LARGEST}], and those of pixels be at least {SMALLEST_SIDE}")
        return architecture


class ClassifierExtractor:
    """Look through a classifier: a `FeatureExtractor` with 64 features, from a file of `save_classifier`.

    Args:
        network: In evaluation mode.
        description: What the file says.
        sha256: Of the file's bytes.
    """

    dimensions = DIMENSIONS

    def __init__(self, network: ClassifierNetwork, description: Description, sha256: str) -> None:
        self.network = network
        self.description = description
        self.name = description.name
        self.sha256 = sha256

    def __call__(self, images: Tensor) -> Features:
        """Look at images, uint8 [N, C, H, W]; see `FeatureExtractor`.

        Raises:
            ShapeError: If they are not of the size that the classifier was trained on.
        """
        shape = tuple(self.description.architecture[:3])
        if images.shape[1:] != shape:
            raise ShapeError(
                f"{self.name} was trained on images of shape {shape}, not {tuple(images.shape[1:])}.",
                "Fit one to these images with `ddpm evaluate --fit-extractor`.",
            )
        return in_parts(self._look, images, _BATCH_SIZE)

    def _look(self, images: Tensor) -> Features:
        x = normalise(images.to(self.network.head.weight.device))
        return Features(*self.network(x.contiguous(memory_format=torch.channels_last)))


def load_bundled(device: torch.device) -> ClassifierExtractor:
    """Load the classifier that comes with this package (`examples/train_fashion_mnist_classifier.py` made it).

    Raises:
        CheckpointError: If its file is damaged.
    """
    with resources.as_file(resources.files("ddpm_cli.metrics").joinpath("bundled", f"{BUNDLED_NAME}.safetensors")) as path:
        extractor = load_classifier(path, device)
    if extractor.sha256 != BUNDLED_SHA256:
        raise CheckpointError(f"{BUNDLED_NAME}, which comes with ddpm-cli, is damaged.", "Install ddpm-cli again.")
    return extractor


def load_classifier(path: Path, device: torch.device) -> ClassifierExtractor:
    """Read what `save_classifier` wrote.

    Raises:
        CheckpointError: If the file is missing, damaged or something else.
    """
    weights = read_weights(path, _REMEDY)
    description = _described(path, weights.metadata)
    if description.weights_sha256 not in (None, content_sha256(weights.tensors, {})):
        raise CheckpointError(f"{path} is damaged: its weights do not match their sum.", "Delete it and fit another one.")
    network = initialised(description.architecture).fold()
    load_strictly(network, weights.tensors, str(path), _REMEDY)
    return ClassifierExtractor(network.to(device), description, weights.sha256)


def save_classifier(path: Path, fitted: FittedClassifier, *, name: str, accuracy: float | None, data_sha256: str) -> None:
    """Write a classifier into one safetensors file, in float16; the same classifier gives the same bytes.

    Args:
        path: File to create or replace; its folder must exist.
        fitted: As `fit_classifier` returns it.
        name: With its version, for people.
        accuracy: See `held_out_accuracy`.
        data_sha256: Of the images that it was fitted to.
    Raises:
        OutputError: If it cannot be written.
    """
    tensors = {key: tensor.to("cpu", torch.float16).contiguous() for key, tensor in fitted.network.state_dict().items()}
    description = Description(
        name=name,
        architecture=fitted.network.architecture,
        task=fitted.task,
        accuracy=accuracy,
        data_sha256=data_sha256,
        weights_sha256=content_sha256({key: tensor.float() for key, tensor in tensors.items()}, {}),
    )
    # One entry, because the format does not keep the order of several.
    atomic_write(path, save(tensors, metadata={_METADATA_KEY: description.model_dump_json()}))


def _described(path: Path, metadata: dict[str, str]) -> Description:
    if _METADATA_KEY not in metadata:
        raise CheckpointError(f"{path} is no classifier of ddpm.", _REMEDY)
    try:
        return Description.model_validate_json(metadata[_METADATA_KEY])
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        raise CheckpointError(f"{path} describes no classifier that this ddpm reads: {field}: {fault['msg']}.", _REMEDY) from error
