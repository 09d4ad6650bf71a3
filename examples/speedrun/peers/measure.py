"""Measure files of samples by the clock cpu-5min's metric: the Fréchet distance to Fashion-MNIST in our classifier's features.

    python examples/speedrun/peers/measure.py runs/peers/*.npz

A file holds `arr_0`, uint8 [N, H, W, C]. Colours are averaged, and other sizes brought to 28x28 by antialiased bilinear
interpolation. The distance of fewer samples is larger: it compares only where n is the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ddpm_cli.build.data import build_dataset
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.evaluation.extractors import Extractors
from ddpm_cli.evaluation.feature_sources import statistics_of
from ddpm_cli.evaluation.references import real_images
from ddpm_cli.metrics.frechet import frechet_distance

BATCH = 250


def fitted(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Bring images, uint8 [N, C, H, W], to one channel and the size of `shape`, uint8."""
    grey = images.float().mean(1, keepdim=True)
    if grey.shape[-2:] != shape[1:]:
        grey = functional.interpolate(grey, shape[1:], mode="bilinear", antialias=True)
    return grey.round().clamp(0, 255).to(torch.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--n", type=int, help="measure the first n of each file; all if left out")
    given = parser.parse_args()
    dataset = build_dataset(load_config(flags={"data.kind": (given.data, "--data")}).config.data, trained_on=True)
    extractor = Extractors(dataset, torch.device("cpu")).of("classifier")
    reference = real_images(dataset, "train", BATCH).statistics(extractor)
    for file in given.files:
        with np.load(file) as arrays:
            images = torch.from_numpy(arrays["arr_0"][: given.n]).permute(0, 3, 1, 2)
            facts = json.loads(str(arrays["facts"])) if "facts" in arrays else {}
        batches = fitted(images, dataset.image_shape).split(BATCH)
        found = statistics_of((extractor(batch).features for batch in batches), extractor.dimensions)
        print(json.dumps({"file": str(file), "n": len(images), "fcd": round(frechet_distance(reference, found), 3)} | facts))


if __name__ == "__main__":
    main()
