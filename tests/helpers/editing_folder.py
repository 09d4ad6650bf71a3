"""Lay pictures to edit beside a trained run."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist_10k


def editing_folder(trained_folder: Path, folder: Path) -> Path:
    """Copy a trained run to a new folder, with two pictures of its data, a.png and b.png, and mask.png of their lower half."""
    shutil.copytree(trained_folder, folder)
    images = load_fashion_mnist_10k().test.images
    for name, number in (("a", 0), ("b", 1)):
        Image.fromarray(images[number, 0]).save(folder / f"{name}.png")
    mask = np.zeros((28, 28), np.uint8)
    mask[14:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    return folder
