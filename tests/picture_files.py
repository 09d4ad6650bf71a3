"""Folders of small pictures for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_picture(path: Path, seed: int, shape: tuple[int, ...] = (8, 8, 3)) -> Path:
    """A picture of noise; [H, W] is grey, [H, W, 3] colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).save(path)
    return path


def write_folder(root: Path, count: int, classes: tuple[str, ...] = ("",), shape: tuple[int, ...] = (8, 8, 3)) -> Path:
    """Pictures 000.png and on, spread over the class folders in turn."""
    for number in range(count):
        write_picture(root / classes[number % len(classes)] / f"{number:03}.png", number, shape)
    return root
