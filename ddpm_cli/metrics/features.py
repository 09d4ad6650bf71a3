"""Look through a network that turns images into vectors, as every metric of samples does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ddpm_cli.metrics.feature_statistics import FrechetStatistics


class Features(NamedTuple):
    """Hold what a network says of a batch of images.

    Attributes:
        features: Activations before the last layer, float32, [N, D], on the extractor's device.
        logits: Class scores before the softmax, float32, [N, K]; None if the network has no last layer.
    """

    features: Tensor
    logits: Tensor | None


class FeatureExtractor(Protocol):
    """Turn images into vectors by a fixed network; figures made with two of them do not compare."""

    @property
    def name(self) -> str:
        """Say what it is, with its version."""

    @property
    def sha256(self) -> str:
        """Give the sum of the bytes of the file that its weights were read from, hexadecimal."""

    @property
    def dimensions(self) -> int:
        """Give the length D of a feature vector."""

    def __call__(self, images: Tensor) -> Features:
        """Look at images.

        Args:
            images: Pixels in [0, 255], uint8, [N, C, H, W], on any device; memory does not grow with N but for the result.
        Raises:
            ShapeError: If the network cannot see images of this shape.
        """


class FeatureSource(Protocol):
    """Give the features of images that a metric asks for, whether they were drawn or are real."""

    @property
    def count(self) -> int:
        """Count the images."""

    def statistics(self, extractor: FeatureExtractor) -> FrechetStatistics:
        """Give mean and covariance of the features."""

    def features(self, extractor: FeatureExtractor) -> Tensor:
        """Give all features, float32 [N, D], perhaps mapped from a file."""

    def logits(self, extractor: FeatureExtractor) -> Tensor:
        """Give all class scores, float32 [N, K], perhaps mapped from a file."""


class RealFeatureSource(FeatureSource, Protocol):
    """Give the features of real images, of which fewer can be had."""

    def some(self, n: int) -> Self:
        """Take at most n of them, always the same."""


@torch.no_grad()
def in_parts(look: Callable[[Tensor], Features], images: Tensor, size: int) -> Features:
    """Look at images [N, C, H, W], N at least 1, a few at a time: the activations of only `size` of them are held at once."""
    features, logits = zip(*(look(images[i : i + size]) for i in range(0, len(images), size)), strict=True)
    return Features(torch.cat(features), None if logits[0] is None else torch.cat(logits))
