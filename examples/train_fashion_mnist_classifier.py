"""Train the Fashion-MNIST classifier that comes with ddpm-cli, whose features `fcd` is measured with.

    python examples/train_fashion_mnist_classifier.py fashion-mnist-classifier-v1.safetensors

It learns the 60,000 training images and is judged on the 10,000 test images, which it does not see before the end. The same
images, number of threads, processor and version of torch give the same file, byte for byte; others give another classifier,
which needs another name: figures made with two of them do not compare.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import torch

from ddpm_cli.data.images import Dataset
from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist
from ddpm_cli.metrics.classifier import BUNDLED_NAME, save_classifier
from ddpm_cli.metrics.classifier_fit import fit_classifier, held_out_accuracy
from ddpm_cli.results.events import EvaluateProgress, Event

SEED = 2017


def train(dataset: Dataset, path: Path, epochs: int | None = None) -> float | None:
    fitted = fit_classifier(dataset.train.images, dataset.train.labels, seed=SEED, epochs=epochs, on_event=show)
    accuracy = held_out_accuracy(fitted, dataset.test.images, dataset.test.labels)
    save_classifier(path, fitted, name=BUNDLED_NAME, accuracy=accuracy, data_sha256=dataset.sha256)
    return accuracy


def show(event: Event) -> None:
    if isinstance(event, EvaluateProgress) and event.done % 100 == 0:
        print(f"step {event.done:,} of {event.total:,}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the bundled classifier of Fashion-MNIST.")
    parser.add_argument("out", type=Path, help="file to write")
    parser.add_argument("--root", type=Path, help="folder with the full Fashion-MNIST")
    parser.add_argument("--threads", type=int, default=2, help="the weights depend on it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = load_fashion_mnist(options.root)
    if dataset.name != "fashion-mnist":
        raise SystemExit("The full Fashion-MNIST was not found; name its folder with --root.")
    accuracy = train(dataset, options.out)
    content = options.out.read_bytes()
    print(f"{options.out}: {len(content):,} bytes, accuracy {accuracy:.4f}, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
