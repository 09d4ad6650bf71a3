"""Choose the network that looks at the images: Inception, the bundled classifier, or one that was fitted to the data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ddpm_cli.core.compute.team import Team
from ddpm_cli.core.io.downloads import cache_directory
from ddpm_cli.core.io.files import make_folder
from ddpm_cli.data.scale import USUAL
from ddpm_cli.errors import RequestError
from ddpm_cli.metrics.classifier import load_bundled, load_classifier, save_classifier
from ddpm_cli.metrics.classifier_fit import fit_classifier, held_out_accuracy
from ddpm_cli.metrics.inception import load_inception, require_inception
from ddpm_cli.results.events import Listener, Notice, ignore

if TYPE_CHECKING:
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.metrics.features import FeatureExtractor
    from ddpm_cli.metrics.registry import ExtractorKind

BUNDLED_FOR = ("fashion-mnist", "fashion-mnist-10k")
BUNDLED_SHAPE = (1, 28, 28)


class Extractors:
    """Load the networks that look at the images of one data set, each when it is first asked for.

    Args:
        dataset: The data.
        device: Where they work.
        weights: File of the Inception network; None downloads it.
        fit: Train a classifier on the data if there is none for it.
        team: The processes; the main one trains while the others wait.
        on_event: Told of the training and its outcome.
    """

    def __init__(
        self,
        dataset: Dataset,
        device: torch.device,
        *,
        weights: Path | None = None,
        fit: bool = False,
        team: Team | None = None,
        on_event: Listener = ignore,
    ) -> None:
        self._dataset, self._device, self._weights, self._fit = dataset, device, weights, fit
        self._team, self._on_event = team or Team(), on_event
        self._loaded: dict[ExtractorKind, FeatureExtractor] = {}

    def of(self, kind: ExtractorKind) -> FeatureExtractor:
        """Load the network of one kind.

        Raises:
            RequestError: If it cannot be had.
            CheckpointError: If its file is damaged, or of another network.
        """
        if kind not in self._loaded:
            self.check(kind)
            self._loaded[kind] = load_inception(self._weights, self._device) if kind == "inception" else self._classifier()
        return self._loaded[kind]

    def check(self, kind: ExtractorKind) -> None:
        """Refuse a network that cannot be had, before anything is loaded or trained.

        Raises:
            RequestError: If there is none for these images, or a package is missing.
            CheckpointError: If the file that was named is missing.
        """
        if kind == "inception":
            require_inception(self._weights)
        elif not self._fit and not has_bundled(self._dataset) and not fitted_path(self._dataset).exists():
            raise RequestError(
                f"There is no classifier yet that knows {self._dataset.name}, and metrics such as fcd look through one.",
                "Train one, once for these images, by adding --fit-extractor.",
            )

    def _classifier(self) -> FeatureExtractor:
        bundled = has_bundled(self._dataset)
        if self._fit:
            self._fit_classifier(bundled)
        if bundled:
            return load_bundled(self._device)
        return load_classifier(fitted_path(self._dataset), self._device)

    def _fit_classifier(self, bundled: bool) -> None:
        path = fitted_path(self._dataset)
        known = "the one that comes with ddpm-cli" if bundled else f"{path}, fitted before"
        if bundled or path.exists():
            self._on_event(Notice(f"The classifier for {self._dataset.name} is {known}."))
        elif self._team.is_main:
            self._on_event(Notice(f"Training a classifier on {self._dataset.name}, once; metrics such as fcd look through it."))
            accuracy = fit_to(self._dataset, path, self._device, self._on_event)
            right = (
                "no images are held out to test it" if accuracy is None else f"it is right about {accuracy:.1%} of held-out images"
            )
            self._on_event(Notice(f"Classifier of {self._dataset.name}: {right}; kept as {path}."))
        self._team.wait()


def has_bundled(dataset: Dataset) -> bool:
    """Tell whether the classifier that comes with the package was made for these images."""
    return dataset.name in BUNDLED_FOR and dataset.image_shape == BUNDLED_SHAPE and dataset.scale == USUAL


def fitted_path(dataset: Dataset) -> Path:
    """Tell where the classifier that was fitted to a data set is kept."""
    scale = "".join(f"-{which.low:g}-{which.high:g}" for which in [dataset.scale] if which != USUAL)
    return cache_directory() / "extractors" / f"{dataset.sha256[:24]}{scale}.safetensors"


def fit_to(dataset: Dataset, path: Path, device: torch.device, on_event: Listener = ignore) -> float | None:
    """Train a classifier on a data set and write it to a file.

    Returns:
        The share of held-out images that it is right about; None if there are none.
    Raises:
        OutputError: If the file cannot be written.
    """
    make_folder(path.parent)
    classes = len(dataset.train.class_names) > 1
    train, test = dataset.train, dataset.test
    seen, held_out = dataset.scale.view_array(train.images), dataset.scale.view_array(test.images)
    fitted = fit_classifier(seen, train.labels if classes else None, device=device, on_event=on_event)
    accuracy = held_out_accuracy(fitted, held_out, test.labels if classes else None)
    name = f"{dataset.name}-classifier-{dataset.sha256[:8]}"
    save_classifier(path, fitted, name=name, accuracy=accuracy, data_sha256=dataset.sha256)
    return accuracy


def require_logits(extractor: FeatureExtractor, image_shape: tuple[int, int, int]) -> None:
    """Refuse an extractor that scores no classes, where the Inception Score needs them.

    Raises:
        RequestError: Naming the remedy.
    """
    if extractor(torch.zeros(1, *image_shape, dtype=torch.uint8)).logits is None:
        raise RequestError(
            "The Inception Score needs the classifier layer of the Inception network, which these weights lack.",
            "Give the full weights by --extractor-weights, or leave it out to download them.",
        )
