"""Build the subset of Fashion-MNIST that comes with ddpm-cli.

    python examples/build_fashion_mnist_10k.py fashion-mnist-10k.xz

For each class it takes 1,000 of the training and 200 of the test images: those with the smallest of random keys, in their
published order. The file is the pixels alone, uint8 [class, 1,000 train then 200 test, 28, 28], packed with xz; the class of an
image follows from its place. The same originals give the same file, byte for byte (with the same liblzma).
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data.images import Dataset, ImageSet
from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist

SEED = 2017
TRAIN_PER_CLASS, TEST_PER_CLASS = 1_000, 200


def choose(split: ImageSet, per_class: int, bits: np.random.PCG64) -> NDArray[np.uint8]:
    keys = bits.random_raw(len(split))
    classes = []
    for label in range(len(split.class_names)):
        members = np.flatnonzero(split.labels == label)
        chosen = np.sort(members[np.argsort(keys[members])[:per_class]])
        classes.append(split.images[chosen, 0])
    return np.stack(classes)


def build(dataset: Dataset) -> bytes:
    bits = np.random.PCG64(np.random.SeedSequence(SEED))
    train = choose(dataset.train, TRAIN_PER_CLASS, bits)
    test = choose(dataset.test, TEST_PER_CLASS, bits)
    return np.concatenate([train, test], axis=1).tobytes()


def pack(pixels: bytes) -> bytes:
    return lzma.compress(pixels, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, preset=7 | lzma.PRESET_EXTREME)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the bundled subset of Fashion-MNIST.")
    parser.add_argument("out", type=Path, help="file to write")
    parser.add_argument("--root", type=Path, help="folder with the full Fashion-MNIST")
    options = parser.parse_args()
    dataset = load_fashion_mnist(options.root)
    if dataset.name != "fashion-mnist":
        raise SystemExit("The full Fashion-MNIST was not found; name its folder with --root.")
    pixels = build(dataset)
    packed = pack(pixels)
    options.out.write_bytes(packed)
    print(f"{options.out}: {len(packed):,} bytes, from {dataset.source}; sha256 of the pixels {hashlib.sha256(pixels).hexdigest()}")


if __name__ == "__main__":
    main()
