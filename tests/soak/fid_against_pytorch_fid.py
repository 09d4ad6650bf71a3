"""Compare the FID of `ddpm evaluate FOLDER` with pytorch-fid's, by hand, with Inception's real weights on real images.

    pip install pytorch-fid torchvision
    python tests/soak/fid_against_pytorch_fid.py inception.safetensors --n 20 --size 28

The first n training images of Fashion-MNIST are measured against the file that pytorch-fid saves of the first n test images, in
colour, as folders of PNGs. pytorch-fid 0.3.0 is given the same weights in place of its download, whose names are the same. Our
distance of its statistics tells a difference of the distances from one of the features. At --size 299 neither program resizes.
Takes a minute of one processor at n = 20, a third of it for the root of a 2048x2048 matrix.

Seen with 20 images: at 299x299 ddpm 212.616551 and pytorch-fid 212.513931 (4.8e-4 apart), at 28x28 176.327815 and 175.570212
(4.3e-3); our distance of its statistics is 5.5e-7 and 6.0e-7 off its own. So the features differ, above all by the resizing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytorch_fid.inception
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_fid.fid_score import calculate_frechet_distance, compute_statistics_of_path
from safetensors.torch import load_file

from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist
from ddpm_cli.evaluation.given.statistics_file import read_statistics_file
from ddpm_cli.metrics.frechet import frechet_distance


def write_pngs(folder: Path, images: NDArray[np.uint8], size: int) -> Path:
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0]).convert("RGB").resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{i:06}.png")
    return folder


def save_theirs(weights: Path, folder: Path) -> Path:
    """What pytorch-fid's --save-stats writes of a folder."""
    state = {name: value.float() if value.is_floating_point() else value for name, value in load_file(weights).items()}
    pytorch_fid.inception.load_state_dict_from_url = lambda *given, **named: state
    network = pytorch_fid.inception.InceptionV3([pytorch_fid.inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]])
    mean, covariance = compute_statistics_of_path(str(folder), network.eval(), 50, 2048, torch.device("cpu"), 0)
    np.savez(folder.with_suffix(".npz"), mu=mean, sigma=covariance)
    return folder.with_suffix(".npz")


def ours(weights: Path, images: Path, reference: Path) -> float:
    """What `ddpm evaluate FOLDER --reference FILE` says."""
    command = [
        sys.executable,
        "-m",
        "ddpm_cli",
        "evaluate",
        str(images),
        "--reference",
        str(reference),
        "--metrics",
        "fid",
        "--json",
    ]
    command += ["--extractor-weights", str(weights), "--out", str(images.with_suffix(".out"))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["figures"][0]["value"])


def main() -> None:
    """Print the figures, and how far they differ."""
    parser = argparse.ArgumentParser(description="Compare our FID with pytorch-fid's.")
    parser.add_argument("weights", type=Path, help="Inception's weights, safetensors")
    parser.add_argument("--n", type=int, default=20, help="images of each kind")
    parser.add_argument("--size", type=int, default=28, help="side of the images")
    options = parser.parse_args()
    data = load_fashion_mnist()
    with tempfile.TemporaryDirectory() as scratch:
        images = write_pngs(Path(scratch, "images"), data.train.images[: options.n], options.size)
        real = write_pngs(Path(scratch, "real"), data.test.images[: options.n], options.size)
        saved = [save_theirs(options.weights, folder) for folder in (images, real)]
        one, other = (read_statistics_file(path) for path in saved)
        expected = float(calculate_frechet_distance(one.mean, one.covariance, other.mean, other.covariance))
        found = {
            "ddpm evaluate": ours(options.weights, images, saved[1]),
            "our distance of its statistics": frechet_distance(one.gaussian, other.gaussian),
        }
    print(f"{options.n} images of {options.size}x{options.size} of each kind: pytorch-fid {expected:.6f}")
    for name, value in found.items():
        print(f"{name:32} {value:.6f}  relative difference {abs(value - expected) / expected:.1e}")


if __name__ == "__main__":
    main()
