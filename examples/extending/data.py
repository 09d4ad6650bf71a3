"""Add a data set: `ddpm train --data stripes`."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from ddpm_cli.config.schema.data import DataBase
from ddpm_cli.data.images import Dataset, ImageSet, images_sha256
from ddpm_cli.results.events import Listener


class StripesData(DataBase):
    """Draw stripes of two classes when they are asked for: upright and lying ones, of any width and place."""

    kind: Literal["stripes"] = "stripes"
    size: int = Field(16, ge=4, le=256, description="Height and width.")
    count: int = Field(1000, ge=10, le=100_000, description="Images; a tenth of them is held out.")

    def load(self, on_event: Listener, *, trained_on: bool) -> Dataset:
        """Draw all images, the same each time."""
        dice = np.random.default_rng(0)
        labels = np.arange(self.count, dtype=np.int64) % 2
        period, shift = dice.uniform(3, 8, (self.count, 1, 1)), dice.uniform(0, 8, (self.count, 1, 1))
        waves = np.sin(2 * np.pi * (np.arange(self.size) + shift) / period)  # [N, 1, size]
        pixels = np.broadcast_to((127.5 + 127.5 * waves).astype(np.uint8), (self.count, self.size, self.size))
        pixels = np.where(labels[:, None, None] == 0, pixels, pixels.transpose(0, 2, 1))[:, None]
        names, cut = ("upright", "lying"), self.count // 10
        test, train = (ImageSet(pixels[part], labels[part], names) for part in (slice(cut), slice(cut, None)))
        return Dataset("stripes", "drawn by ddpm-extending", train, test, images_sha256(train.images))
