"""Embed what conditions a network as one vector: the noise level, the class and how the image was augmented, added up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ddpm_cli.errors import ShapeError
from ddpm_cli.models.base import Denoiser
from ddpm_cli.models.embeddings import TimeEmbedding
from ddpm_cli.models.layers import zeroed


class Conditioned(Denoiser):
    """Embed noise levels, classes and augmentations as one vector that all parts of the network read.

    Args:
        in_channels: Channels of x.
        image_size: (H, W) of x.
        num_classes: Classes of the images, each with a learned vector that is added to the time embedding (Nichol & Dhariwal 2021,
            Sec. 2.3). Label `num_classes` is the null label, an image of any class, with a vector of its own. None: no labels.
        time_embedding: Of the noise levels.
        embedding_channels: Length of its result.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int | None,
        time_embedding: TimeEmbedding,
        embedding_channels: int,
    ) -> None:
        super().__init__(in_channels=in_channels, image_size=image_size, num_classes=num_classes)
        self.embedding_channels = embedding_channels
        self.time_embedding = time_embedding
        self.label_embedding = None if num_classes is None else nn.Embedding(num_classes + 1, embedding_channels)
        self.augmentation_embedding: nn.Linear | None = None

    def take_augmentation(self, size: int) -> None:
        """Add a linear map of the vector to the time embedding (Karras et al. 2022, App. F.2), without a bias: 0 adds 0."""
        self.augmentation_embedding = zeroed(nn.Linear(size, self.embedding_channels, bias=False))

    def class_tables(self) -> Sequence[str]:
        """Name the table of labels."""
        return () if self.label_embedding is None else ("label_embedding.weight",)

    def embed(self, t: Tensor, labels: Tensor | None, augmentation: Tensor | None) -> Tensor:
        """Make the vector, [B, embedding_channels].

        Args:
            t: Noise levels, [B], int or float.
            labels: Classes in [0, num_classes], int64, [B]; None stands for the null label.
            augmentation: See `take_augmentation`, [B, size]; None stands for 0.
        Raises:
            ShapeError: If there are labels or an augmentation, and the network was built for none.
        """
        embedding = self._embed_labelled(t, labels)
        return embedding if augmentation is None else embedding + self._embed_augmentation(augmentation)

    def check_images(self, x: Tensor) -> None:
        """Refuse images of another size, or with other channels, than the network was built for.

        Raises:
            ShapeError: If they are.
        """
        expected = (self.in_channels, *self.image_size)
        if tuple(x.shape[1:]) != expected:
            raise ShapeError(
                f"The network takes images of [C, H, W] = {list(expected)}, not {list(x.shape[1:])}.",
                "Resize the images, or build the network for them.",
            )

    def _embed_labelled(self, t: Tensor, labels: Tensor | None) -> Tensor:
        embedding: Tensor = self.time_embedding(t)
        if self.label_embedding is None or self.num_classes is None:
            if labels is not None:
                raise ShapeError("The network takes no class labels.", "Build it with num_classes.")
            return embedding
        if labels is None:
            labels = torch.full_like(t, self.num_classes, dtype=torch.int64)
        embedding = embedding + self.label_embedding(labels)
        return embedding

    def _embed_augmentation(self, augmentation: Tensor) -> Tensor:
        if self.augmentation_embedding is None:
            raise ShapeError("The network takes no augmentation.", "Build it with data.augment.")
        embedding: Tensor = self.augmentation_embedding(augmentation)
        return embedding
