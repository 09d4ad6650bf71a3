"""Compare the FID of `ddpm evaluate FOLDER` with pytorch-fid's, by hand, with Inception's real weights on real images.

    pip install pytorch-fid torchvision
    python tests/soak/fid_against_pytorch_fid.py inception.safetensors --n 200

The first n training images of Fashion-MNIST are measured against a file of statistics of the first n test images, in colour, as
folders of PNGs. pytorch-fid 0.3.0 is given the same weights in place of its download, whose names are the same. Three figures tell
where a difference comes from: both Fréchet distances of our statistics, both of theirs, and each program's own. Takes about 3
minutes of two processors at n = 200: two networks look at 4 n images, and pytorch-fid takes the root of a 2048x2048 matrix.
"""

from __future__ import annotations

import argparse
import json
import os
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

Statistics = tuple[NDArray[np.float64], NDArray[np.float64]]


def write_pngs(folder: Path, images: NDArray[np.uint8], size: int) -> Path:
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0]).convert("RGB").resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{i:06}.png")
    return folder


def theirs(weights: Path, folder: Path) -> Statistics:
    state = {name: value.float() if value.is_floating_point() else value for name, value in load_file(weights).items()}
    pytorch_fid.inception.load_state_dict_from_url = lambda *given, **named: state
    network = pytorch_fid.inception.InceptionV3([pytorch_fid.inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]])
    mean, covariance = compute_statistics_of_path(str(folder), network.eval(), 50, 2048, torch.device("cpu"), 0)
    return mean, covariance


def ours(weights: Path, images: Path, reference: str, *more: str) -> float:
    command = [sys.executable, "-m", "ddpm_cli", "evaluate", str(images), "--reference", reference, "--metrics", "fid", "--json"]
    command += ["--extractor-weights", str(weights), *more]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"DDPM_CACHE": str(images.parent)})
    return float(json.loads(done.stdout)["figures"][0]["value"])


def main() -> None:
    """Print the figures, and how far they differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="Inception's weights, safetensors")
    parser.add_argument("--n", type=int, default=200, help="images of each kind")
    parser.add_argument("--size", type=int, default=28, help="side of the images; at 299 neither program resizes")
    options = parser.parse_args()
    data = load_fashion_mnist()
    with tempfile.TemporaryDirectory() as scratch:
        images = write_pngs(Path(scratch, "images"), data.train.images[: options.n], options.size)
        real = write_pngs(Path(scratch, "real"), data.test.images[: options.n], options.size)
        file = Path(scratch, "statistics.npz")
        own = ours(options.weights, images, str(real), "--write-statistics", str(file))
        by_file = ours(options.weights, images, str(file))
        ours(options.weights, real, str(images), "--write-statistics", str(Path(scratch, "of-images.npz")))
        with np.load(file) as found, np.load(Path(scratch, "of-images.npz")) as other:
            our_real, our_images = (found["mu"], found["sigma"]), (other["mu"], other["sigma"])
        their_images, their_real = theirs(options.weights, images), theirs(options.weights, real)
        print(f"{options.n} images of {options.size}x{options.size} of each kind")
        print(f"ddpm against a folder {own:.6f}, against its statistics {by_file:.6f}")
        print(f"pytorch-fid {calculate_frechet_distance(*their_images, *their_real):.6f}")
        print(f"pytorch-fid's distance of our statistics {calculate_frechet_distance(*our_images, *our_real):.6f}")
        for name, (one, another) in {"images": (our_images, their_images), "real": (our_real, their_real)}.items():
            print(f"means of {name}: largest difference {abs(one[0] - another[0]).max():.1e} of {abs(another[0]).max():.3f}")


if __name__ == "__main__":
    main()
