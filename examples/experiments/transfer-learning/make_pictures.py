"""Write three sets of pictures to train on from clothes: characters.npz, letters/ and colour-clothes/.

    python examples/experiments/transfer-learning/make_pictures.py

- characters.npz stands in for KMNIST, which is a download: 6,000 + 1,000 images, 28x28, grey, of its ten hiragana. They are not
  handwritten, but drawn from a font with several widths of stroke, and each is turned, sheared, scaled and bent at random.
- letters/ is a folder of one's own: 2,000 PNGs, 32x32, grey, dark on light, with a subfolder for each of twenty Cyrillic letters,
  drawn from every DejaVu and Liberation font.
- colour-clothes/ holds 300 PNGs, 28x28: images of Fashion-MNIST that no run was trained on, tinted, on coloured backgrounds.

Fonts: Debian's fonts-droid-fallback, fonts-dejavu and fonts-liberation, or --fonts FOLDER with the same files.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ddpm_cli.build.data import build_dataset
from ddpm_cli.config.schema.data import FashionMnistData

HIRAGANA = "おきすつなはまやれを"
CYRILLIC = "БГДЖЗИЛПФЦЧШЩЪЫЬЭЮЯУ"
CANVAS = 64
"""Pixels on each side of what is drawn, before it becomes small."""
BEND = 2.5
"""Standard deviation in pixels of how far a point of a 4x4 net is moved; the rest follows between them."""


def drawn(character: str, font: ImageFont.FreeTypeFont, width: int) -> NDArray[np.float32]:
    """Draw a character white on black about the middle of the canvas, values in [0, 1]."""
    image = Image.new("L", (CANVAS, CANVAS))
    ImageDraw.Draw(image).text((CANVAS / 2, CANVAS / 2), character, 255, font, anchor="mm", stroke_width=width)
    return np.asarray(image, np.float32) / 255


def bent(image: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Turn, shear, scale, move and bend an image at random."""
    turn, shear, scale = random.normal(0, 0.15), random.normal(0, 0.15), np.exp(random.normal(0, 0.1, 2))
    matrix = np.array([[np.cos(turn), -np.sin(turn) + shear], [np.sin(turn), np.cos(turn)]]) / scale
    middle = (CANVAS - 1) / 2
    grid = np.stack(np.meshgrid(np.arange(CANVAS), np.arange(CANVAS), indexing="xy")) - middle
    places = np.einsum("ij,jyx->iyx", matrix, grid) + middle + random.normal(0, 2.0, 2)[:, None, None]
    for axis in range(2):
        net = Image.fromarray(random.normal(0, BEND, (4, 4)).astype(np.float32))
        places[axis] += np.asarray(net.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC))
    return between(image, *np.clip(places, 0, CANVAS - 1.001))


def between(image: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float32]:
    """Read an image at places between its pixels, bilinearly."""
    left, top = x.astype(int), y.astype(int)
    right, below = x - left, y - top
    upper = image[top, left] * (1 - right) + image[top, left + 1] * right
    lower = image[top + 1, left] * (1 - right) + image[top + 1, left + 1] * right
    return (upper * (1 - below) + lower * below).astype(np.float32)


def small(image: NDArray[np.float32], size: int) -> NDArray[np.uint8]:
    """Bring values in [0, 1] to size x size pixels."""
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BOX)
    return np.clip(np.asarray(resized) * 255 + 0.5, 0, 255).astype(np.uint8)


def write_characters(font: Path, random: np.random.Generator) -> None:
    """Write characters.npz."""
    faces = [ImageFont.truetype(font, size) for size in (38, 42, 46)]
    labels = random.permutation(np.arange(7000) % len(HIRAGANA))
    images = np.stack(
        [small(bent(drawn(HIRAGANA[label], faces[random.integers(3)], int(random.integers(3))), random), 28) for label in labels]
    )
    np.savez_compressed(
        "characters.npz", images=images[:6000], labels=labels[:6000], test_images=images[6000:], test_labels=labels[6000:]
    )


def write_letters(fonts: Sequence[Path], random: np.random.Generator) -> None:
    """Write letters/."""
    faces = [ImageFont.truetype(font, 40) for font in fonts]
    for number in range(2000):
        letter = CYRILLIC[number % len(CYRILLIC)]
        ink = bent(drawn(letter, faces[random.integers(len(faces))], 0), random)
        paper, dark = random.uniform(0.75, 1), random.uniform(0, 0.3)
        folder = Path("letters", f"letter-{number % len(CYRILLIC):02d}")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small(paper + (dark - paper) * ink, 32)).save(folder / f"{number:04d}.png")


def write_clothes(random: np.random.Generator) -> None:
    """Write colour-clothes/."""
    Path("colour-clothes").mkdir(exist_ok=True)
    images = build_dataset(FashionMnistData()).test.images
    for number, chosen in enumerate(random.choice(len(images), 300, replace=False)):
        brightness = images[chosen, 0][..., None] / 255
        tint, background = random.uniform(0.3, 1, 3), random.uniform(0, 0.6, 3)
        covered = np.minimum(brightness * 4, 1)  # dark folds are cloth, too
        pixels = covered * brightness * tint + (1 - covered) * background
        Image.fromarray((pixels * 255 + 0.5).astype(np.uint8)).save(f"colour-clothes/{number:03d}.png")


def main() -> None:
    """Write all three into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts/truetype"), help="folder of fonts")
    folder = parser.parse_args().fonts
    random = np.random.default_rng(0)
    (japanese,) = folder.rglob("DroidSansFallbackFull.ttf")
    write_characters(japanese, random)
    write_letters(sorted([*folder.rglob("DejaVu*.ttf"), *folder.rglob("Liberation*.ttf")]), random)
    write_clothes(random)
    print("characters.npz: 6,000 + 1,000 images; letters/: 2,000 PNGs in 20 classes; colour-clothes/: 300 PNGs")


if __name__ == "__main__":
    main()
