"""What the peers' scripts share: arguments, Fashion-MNIST's images, a clock, and a file of samples."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import ddpm_cli

Pixels = NDArray[np.uint8]
BATCH = 50
"""Samples at a time."""


@dataclass(frozen=True)
class Race:
    """What a script was asked for.

    Attributes:
        data: Name of the data set.
        minutes: Of training.
        n: Samples.
        sampling_minutes: After which no further batch of samples is begun.
        seed: Of everything random.
        batch_size: Training images at a time; the peer's own if None.
        out: File of the samples.
    """

    data: str
    minutes: float
    n: int
    sampling_minutes: float
    seed: int
    batch_size: int | None
    out: Path

    def images(self) -> Pixels:
        """All training images, uint8 [N, H, W]."""
        return ddpm_cli.load_images(self.data).images[..., 0]


def race(description: str | None) -> Race:
    """Read the arguments, and fix the seed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file of the samples, .npz")
    parser.add_argument("--minutes", type=float, default=5, help="of training; 5 if left out")
    parser.add_argument("--n", type=int, default=5000, help="samples; 5,000 if left out")
    parser.add_argument("--sampling-minutes", type=float, default=30, help="after which no batch is begun; 30 if left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--batch-size", type=int, help="of training; that of the peer's example if left out")
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    np.random.seed(given.seed)
    return Race(given.data, given.minutes, given.n, given.sampling_minutes, given.seed, given.batch_size, given.out)


class Clock:
    """Run from the moment that it is made."""

    def __init__(self, minutes: float) -> None:
        self._began = time.monotonic()
        self._minutes = minutes

    @property
    def minutes(self) -> float:
        """Minutes so far."""
        return (time.monotonic() - self._began) / 60

    @property
    def is_over(self) -> bool:
        """Whether they are as many as there were to be."""
        return self.minutes >= self._minutes


def draw_and_keep(race: Race, steps: int, trained: float, draw: Callable[[int], Tensor]) -> None:
    """Draw samples in batches, as many as the time allows, and keep them with what they came of.

    Args:
        race: What was asked for.
        steps: Training steps that were taken.
        trained: Minutes of training.
        draw: Draws so many images, in [0, 1], [B, C, H, W].
    """
    clock, batches, count = Clock(race.sampling_minutes), [], 0
    while count < race.n and not clock.is_over:
        images = draw(min(BATCH, race.n - count)).clamp(0, 1).cpu()
        batches.append((255 * images).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
        count += len(batches[-1])
    race.out.parent.mkdir(parents=True, exist_ok=True)
    facts = {"steps": steps, "minutes": round(trained, 2), "samples": count, "sampling_minutes": round(clock.minutes, 2)}
    np.savez_compressed(race.out, arr_0=np.concatenate(batches), facts=json.dumps(facts))
    print(json.dumps(facts))
