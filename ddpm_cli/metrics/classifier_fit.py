"""Train the small classifier, with labels or without."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ddpm_cli.data.batches import normalise
from ddpm_cli.errors import RequestError
from ddpm_cli.metrics.classifier_network import Architecture, ClassifierNetwork, initialised
from ddpm_cli.results.events import EvaluateProgress, Listener, ignore

FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
"""Axes of an image that each class of the task "flips" mirrors: none, left-right, up-down, both."""

Task = Literal["classes", "flips"]
Labels = NDArray[np.int64]

_BATCH_SIZE = 128
_MOST_SEEN, _FEWEST_SEEN, _USUAL_PASSES = 480_000, 60_000, 25
_LEARNING_RATE = 0.01
_WEIGHT_DECAY = 0.05


@dataclass(frozen=True, eq=False)
class FittedClassifier:
    """Hold what `fit_classifier` returns.

    Attributes:
        network: In evaluation mode, on the CPU, its normalisations folded.
        task: "classes" if it learned the labels, "flips" if it learned how images were mirrored.
    """

    network: ClassifierNetwork
    task: Task


def fit_classifier(
    images: NDArray[np.uint8],
    labels: Labels | None,
    *,
    seed: int = 0,
    epochs: int | None = None,
    device: torch.device | None = None,
    on_event: Listener = ignore,
) -> FittedClassifier:
    """Train a classifier; on the CPU the same images, seed and number of threads give the same weights, bit for bit.

    Without labels, or with those of a single class, it learns which of four ways an image was mirrored in (none, left-right,
    up-down, both): a task that needs no labels and yet needs the shape of what is seen, after the rotations of Gidaris et
    al. 2018. Unlike those it suits images that are not square.

    Args:
        images: Pixels, uint8, [N, C, H, W], of at least 8 pixels a side.
        labels: Class of each image, from 0, int64, [N]; or None.
        seed: Of weights, order and mirrors, in [0, 2**32).
        epochs: Passes over the images, at least 1; None for what `usual_epochs` says.
        device: Where it is trained; None for the CPU.
        on_event: Told of each step.
    Raises:
        RequestError: If there are no images.
        ShapeError: If the images are too small.
    """
    if len(images) == 0:
        raise RequestError("A classifier cannot be fitted to no images.", "Choose another data set.")
    if labels is not None and labels.min() == labels.max():
        labels = None
    channels, height, width = images.shape[1:]
    classes = len(FLIPS) if labels is None else int(labels.max()) + 1
    network = initialised(Architecture(channels, height, width, classes), seed)
    passes = usual_epochs(len(images)) if epochs is None else epochs
    steps = passes * math.ceil(len(images) / _BATCH_SIZE)
    _train(network.to(device or torch.device("cpu")), _batches(images, labels, seed), steps, on_event)
    network.fold().to("cpu").to(memory_format=torch.contiguous_format)
    return FittedClassifier(network, "flips" if labels is None else "classes")


def usual_epochs(images: int) -> int:
    """Count passes over so many images until a classifier has learned what it can: 25, but 60,000 to 480,000
    images in all.

    Args:
        images: In the training set, at least 1.
    """
    return math.ceil(min(_MOST_SEEN, max(_USUAL_PASSES * images, _FEWEST_SEEN)) / images)


def held_out_accuracy(fitted: FittedClassifier, images: NDArray[np.uint8], labels: Labels | None) -> float | None:
    """Measure the share of images that a classifier is right about at its task, in [0, 1]; None if there are no images.

    Args:
        fitted: The classifier.
        images: That it was not trained on, uint8, [N, C, H, W].
        labels: Class of each, int64, [N]; the task "flips" needs none.
    """
    if len(images) == 0:
        return None
    right: list[Tensor] = []
    for start in range(0, len(images), _BATCH_SIZE):
        part = slice(start, start + _BATCH_SIZE)
        for pixels, targets in _questions(images[part], labels[part] if fitted.task == "classes" and labels is not None else None):
            with torch.no_grad():
                right.append(fitted.network(normalise(pixels))[1].argmax(dim=1) == targets)
    return float(torch.cat(right).double().mean())


def _train(network: ClassifierNetwork, batches: Iterator[tuple[Tensor, Tensor]], steps: int, on_event: Listener) -> None:
    device = network.head.weight.device
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    network.train()
    for step in range(1, steps + 1):
        pixels, targets = next(batches)
        x = normalise(pixels.to(device)).contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad()
        torch.autograd.backward(functional.cross_entropy(network(x)[1], targets.to(device)))
        optimizer.step()
        if step < steps:
            rate.step()
        on_event(EvaluateProgress("fit-extractor", step, steps))


def _batches(images: NDArray[np.uint8], labels: Labels | None, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of pixels and targets; each pass over the images is a new permutation of them."""
    random = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(images), generator=random).numpy()
        for start in range(0, len(order), _BATCH_SIZE):
            chosen = order[start : start + _BATCH_SIZE]
            pixels = torch.from_numpy(images[chosen])
            if labels is not None:
                yield pixels, torch.from_numpy(labels[chosen])
            else:
                targets = torch.randint(len(FLIPS), (len(pixels),), generator=random)
                yield _mirrored(pixels, targets), targets


def _questions(images: NDArray[np.uint8], labels: Labels | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Each image once with its label, or once in each of the four ways."""
    pixels = torch.from_numpy(np.array(images))
    if labels is not None:
        yield pixels, torch.from_numpy(labels)
        return
    for flip in range(len(FLIPS)):
        targets = torch.full((len(pixels),), flip)
        yield _mirrored(pixels, targets), targets


def _mirrored(pixels: Tensor, flips: Tensor) -> Tensor:
    result = pixels.clone()
    for flip, axes in enumerate(FLIPS):
        result[flips == flip] = pixels[flips == flip].flip(axes)
    return result
