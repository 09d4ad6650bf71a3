"""Make batches from images in memory: an endless stream in which every batch is a pure function of (seed, step).

Nothing is carried from one batch to the next, so a run that resumes at step N sees what it would have seen, and each of several
processes takes its own rows of the one global batch.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_cli.data.augmentation import Augmentation, augmented, condition
from ddpm_cli.data.scale import USUAL, Scale
from ddpm_cli.errors import DataError
from ddpm_cli.results.data_change import FROM_THE_START, Since

WHOLE = slice(None)


def normalise(pixels: Tensor, scale: Scale = USUAL) -> Tensor:
    """Map stored pixels, of 8 bits unless the scale says otherwise, to float32 in [-1, 1] (DDPM, Sec. 3.3)."""
    return scale.normalise(pixels)


def to_uint8(x: Tensor) -> Tensor:
    """Map images in [-1, 1] to the nearest of 256 greys, uint8, for screens; what lies outside is clamped.

    It undoes `normalise` for data of 8 bits; values of other depths are brought back by their own `Scale.restore`.
    """
    return USUAL.restore(x)


def fits_on_device(nbytes: int, device: torch.device) -> bool:
    """Tell whether data of this size may stay on the device: on CUDA a third of the free memory at most, elsewhere always.

    Other devices share the memory that the data already lies in.
    """
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return 3 * nbytes <= free


def place(images: NDArray[Any], device: torch.device) -> Tensor:
    """Put images into a tensor [N, C, H, W] of their own type, on the device if they fit there and else on the CPU."""
    tensor = torch.from_numpy(np.require(images, requirements=["C", "W"]))
    return tensor.to(device) if fits_on_device(tensor.nbytes, device) else tensor


def rows_of(images: Tensor, rows: Tensor) -> Tensor:
    """Take some images by their numbers; of 16 bits by way of the signed type, which more devices can move."""
    if images.dtype == torch.uint16:
        return images.view(torch.int16).index_select(0, rows).view(torch.uint16)
    return images.index_select(0, rows)


class Batches:
    """Make an endless stream of batches; each pass over the images is a new permutation of them.

    Position p of the stream is image `p % N` of the permutation of epoch `p // N`; batch `step` is positions step * batch_size up
    to (step + 1) * batch_size, counted from the step since when the images are these. A batch may therefore reach over the end of
    an epoch, none is ever partial, and a set of fewer images than a batch works.

    Args:
        images: Stored pixels, [N, C, H, W], where `place` left them.
        batch_size: Images of a batch, over all processes.
        seed: Fixes the permutations and the flips, in [0, 2**32).
        horizontal_flip: Mirror each image with probability 1/2, drawn anew in each epoch.
        device: Where batches are wanted; by default where the images are.
        labels: Class of each image, int64, [N]; only for `labels_at`.
        since: From where on the images are these; their permutations are others than those of the images before.
        scale: Which stored values are -1 and 1.
        augmentation: Transforms images, after they were mirrored, and tells of it by `vectors_at`; None does neither.
        on_grid: Round transformed images to values that stored ones have: a discretized likelihood is not of what lies between two.
    Raises:
        DataError: If there are no images.
    """

    def __init__(
        self,
        images: Tensor,
        *,
        batch_size: int,
        seed: int,
        horizontal_flip: bool = False,
        device: torch.device | None = None,
        labels: NDArray[np.int64] | None = None,
        since: Since = FROM_THE_START,
        scale: Scale = USUAL,
        augmentation: Augmentation | None = None,
        on_grid: bool = False,
    ) -> None:
        if len(images) == 0:
            raise DataError("The training set holds no images.", "Choose another data set.")
        self.images = images
        self.batch_size = batch_size
        self.seed = seed
        self.horizontal_flip = horizontal_flip
        self.labels = labels
        self.since = since
        self.scale = scale
        self.augmentation = augmentation
        self.on_grid = on_grid and scale.levels is not None  # floats have no grid, and no such likelihood
        self.device = images.device if device is None else device
        # Two, because a batch may reach over the end of an epoch and be asked for in parts.
        # And of a function that knows not this object, which would otherwise hold itself and its images.
        self._draws = lru_cache(maxsize=2)(partial(_draw_epoch, len(images), seed, since.step))

    @property
    def steps_per_epoch(self) -> float:
        """Count the steps of one pass over the images; not a whole number in general."""
        return len(self.images) / self.batch_size

    def epochs_at(self, step: int) -> float:
        """Count the passes over the images in the batches before `step`, over those before they changed too."""
        return self.since.epochs + (step - self.since.step) / self.steps_per_epoch

    def indices(self, step: int) -> NDArray[np.int64]:
        """Tell which images make batch `step`, int64, [batch_size]."""
        return self._take(step, WHOLE)[0]

    def images_at(self, step: int, part: slice = WHOLE) -> Tensor:
        """Take batch `step`, or some of its rows.

        Args:
            step: Number of the batch, from 0.
            part: Rows of the global batch that this process, or this micro-batch, is for.
        Returns:
            x_0 in [-1, 1], float32, [B, C, H, W], on `device`.
        """
        indices, flips = self._take(step, part)
        pixels = rows_of(self.images, _move(torch.from_numpy(indices), self.images.device))
        x_0 = normalise(_move(pixels, self.device), self.scale)
        if self.horizontal_flip:
            mask = _move(torch.from_numpy(flips), self.device)[:, None, None, None]
            x_0 = torch.where(mask, x_0.flip(-1), x_0)
        if self.augmentation is not None:
            x_0 = augmented(x_0, self.augmentation.draw(self.seed, step, self.batch_size)[part])
            x_0 = self.scale.normalise(self.scale.restore(x_0)) if self.on_grid else x_0
        return x_0

    def vectors_at(self, step: int, part: slice = WHOLE) -> Tensor | None:
        """Tell how `images_at` has augmented these rows, float32, [B, 9], on `device`; None without augmentation."""
        if self.augmentation is None:
            return None
        return _move(condition(self.augmentation.draw(self.seed, step, self.batch_size)[part]), self.device)

    def labels_at(self, step: int) -> Tensor:
        """Take the classes of batch `step`, int64, [batch_size], on `device`.

        Raises:
            DataError: If the images have no labels.
        """
        if self.labels is None:
            raise DataError("The training set has no labels.", "Choose another data set.")
        return _move(torch.from_numpy(self.labels[self.indices(step)]), self.device)

    def _take(self, step: int, part: slice) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        first = (step - self.since.step) * self.batch_size
        positions = np.arange(first, first + self.batch_size, dtype=np.int64)[part]
        epochs, offsets = np.divmod(positions, len(self.images))
        indices, flips = np.empty_like(positions), np.empty(len(positions), np.bool_)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            order, mirrored = self._draws(epoch)
            indices[here], flips[here] = order[offsets[here]], mirrored[offsets[here]]
        return indices, flips


def _draw_epoch(n: int, seed: int, since: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The order of n images in an epoch, and which of them are mirrored."""
    # Raw bits, because NumPy promises that they stay the same from version to version, and not so its shuffles.
    bits = np.random.PCG64(np.random.SeedSequence([seed, epoch, since] if since else [seed, epoch])).random_raw(2 * n)
    return np.argsort(bits[:n], kind="stable").astype(np.int64), bits[n:] >= 2**63


def _move(tensor: Tensor, device: torch.device) -> Tensor:
    """Move to the device; to CUDA through pinned memory, so that the host does not wait."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
