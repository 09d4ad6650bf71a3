"""Compare our FID, KID, precision and recall with torch-fidelity's, by hand, with Inception's real weights on real images.

    python tests/soak/fid_against_torch_fidelity.py inception.safetensors --n 500

The first n training images of Fashion-MNIST take the place of generated ones, the first n test images that of real ones; both
programs see them as two folders of PNGs. The Inception Score is compared where the file has the network's last layer.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch_fidelity
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist
from ddpm_cli.metrics.features import Features
from ddpm_cli.metrics.frechet import FrechetStatistics, frechet_distance
from ddpm_cli.metrics.inception import load_inception
from ddpm_cli.metrics.inception_score import inception_score
from ddpm_cli.metrics.kid import kernel_distance
from ddpm_cli.metrics.precision_recall import precision_recall


def write_pngs(folder: Path, images: NDArray[np.uint8]) -> Path:
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0]).save(folder / f"{i:06}.png")
    return folder


def read_pngs(folder: Path) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(Image.open(path)))[None] for path in sorted(folder.iterdir())])


def theirs(weights: Path, generated: Path, real: Path, subset: int) -> dict[str, float]:
    state = {name: t.float() if t.is_floating_point() else t for name, t in load_file(weights).items()}
    torch.save(state, generated.parent / "weights.pth")
    figures: dict[str, float] = torch_fidelity.calculate_metrics(
        input1=str(generated),
        input2=str(real),
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(generated.parent / "weights.pth"),
        fid=True,
        kid=True,
        prc=True,
        isc=True,
        kid_subset_size=subset,
        cuda=False,
        cache=False,
        verbose=False,
        save_cpu_ram=True,
    )
    return figures


def statistics(features: Features) -> FrechetStatistics:
    result = FrechetStatistics(features.features.shape[1])
    result.add(features.features)
    return result


def ours(weights: Path, generated_folder: Path, real_folder: Path, subset: int) -> dict[str, float]:
    extractor = load_inception(weights, torch.device("cpu"))
    generated, real = (extractor(read_pngs(folder)) for folder in (generated_folder, real_folder))
    kid = kernel_distance(real.features, generated.features, subset_size=subset)
    precision, recall = precision_recall(real.features, generated.features)
    figures = {
        "frechet_inception_distance": frechet_distance(statistics(generated), statistics(real)),
        "kernel_inception_distance_mean": kid[0],
        "kernel_inception_distance_std": kid[1],
        "precision": precision,
        "recall": recall,
    }
    print("FID of the real images and themselves:", frechet_distance(statistics(real), statistics(real)))
    if generated.logits is not None:
        figures["inception_score_mean"], figures["inception_score_std"] = inception_score(generated.logits)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare our metrics with torch-fidelity's.")
    parser.add_argument("weights", type=Path, help="Inception's weights, safetensors")
    parser.add_argument("--n", type=int, default=500, help="images of each kind")
    options = parser.parse_args()
    data = load_fashion_mnist()
    with tempfile.TemporaryDirectory() as folder:
        generated = write_pngs(Path(folder, "generated"), data.train.images[: options.n])
        real = write_pngs(Path(folder, "real"), data.test.images[: options.n])
        subset = options.n // 2
        expected = theirs(options.weights, generated, real, subset)
        for name, figure in ours(options.weights, generated, real, subset).items():
            difference = abs(figure - expected[name]) / abs(expected[name])
            print(f"{name:32} ours {figure:.9g}  torch-fidelity {expected[name]:.9g}  relative difference {difference:.1e}")


if __name__ == "__main__":
    main()
