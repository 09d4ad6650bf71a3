"""Whether samples show the augmentation of training: arrows that all point to the right.

    python tests/soak/augmentation_leak.py [STEPS] [SEED]

Trains a small network on them for STEPS (1,500) steps, twice: with data.augment=0.5 by mirroring and turning, and without, on
arrows that were mirrored and turned beforehand, of which no network was told. Of 400 samples of each it counts those that look more
like an arrow to the left, upwards or downwards. Takes some minutes on one core. Exit status 1 if more than 12 samples of the first
are turned, which happens by chance with a probability below 1e-3 where 1 % are, or fewer than 60 of the second.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import ddpm_cli
from ddpm_cli.data.augmentation import Augmentation, augmented
from ddpm_cli.data.batches import normalise, to_uint8

SIDE, COUNT, SAMPLES = 12, 1_000, 400
BY = ("x-flip", "rotate")
PROBABILITY = 0.5


def arrow(right: int, down: int) -> NDArray[np.uint8]:
    """Draw an arrow to the right, moved from the middle."""
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[5:7, 2:8] = 255
    for column in range(4):
        image[2 + column : 10 - column, 6 + column] = 255
    return np.roll(image, (down, right), (0, 1))


def arrows(seed: int) -> NDArray[np.uint8]:
    """Draw COUNT of them, [COUNT, H, W], each moved by up to a pixel and as bright as it likes."""
    draws = np.random.default_rng(seed)
    bright = draws.uniform(0.6, 1.0, COUNT)
    return np.stack([(arrow(*draws.integers(-1, 2, 2)) * share).astype(np.uint8) for share in bright])


def turned(images: NDArray[np.uint8]) -> int:
    """Count images, [N, H, W], that look most like an arrow which does not point to the right."""
    moves = [arrow(right, down) for right in (-1, 0, 1) for down in (-1, 0, 1)]
    models = np.stack([np.rot90(image, quarter).flatten() for quarter in range(4) for image in moves]).astype(float)
    models -= models.mean(axis=1, keepdims=True)
    likeness = images.reshape(len(images), -1).astype(float) @ models.T
    return int((likeness.argmax(axis=1) >= len(moves)).sum())


def samples(images: NDArray[np.uint8], folder: Path, name: str, steps: int, seed: int, **more: object) -> NDArray[np.uint8]:
    """Train on images and draw from the model, [SAMPLES, H, W]."""
    np.save(folder / f"{name}.npy", images)
    settings = {"data.layout": "NHWC", "objective.autoguidance.scale": 1, "model.stem": 1, "train.minutes": None, **more}
    run = ddpm_cli.train(
        "quick",
        data=folder / f"{name}.npy",
        set=settings,
        steps=steps,
        seed=seed,
        name=name,
        runs=folder,
        device="cpu",
        progress=False,
    )
    return ddpm_cli.load(run, device="cpu").sample(SAMPLES)[..., 0]


def main() -> int:
    """Count for both; the exit status."""
    steps, seed = (int(text) for text in [*sys.argv[1:], *("1500", "0")[len(sys.argv) - 1 :]])
    images = arrows(seed)
    draw = Augmentation(PROBABILITY, BY).draw(seed, 0, COUNT)
    before = to_uint8(augmented(normalise(torch.from_numpy(images)[:, None]), draw))[:, 0].numpy()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        told = turned(
            samples(images[..., None], folder, "told", steps, seed, **{"data.augment": PROBABILITY, "data.augment_by": BY})
        )
        untold = turned(samples(before[..., None], folder, "untold", steps, seed))
    sys.stdout.write(f"turned: {turned(images)} of the {COUNT:,} arrows, {turned(before)} of the augmented ones\n")
    sys.stdout.write(f"turned: {told} of {SAMPLES} samples where the network was told, {untold} where it was not\n")
    return int(told > 12 or untold < 60)


if __name__ == "__main__":
    sys.exit(main())
