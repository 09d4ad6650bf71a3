"""Say what to expect of a data set before training on it: epochs, augmentation, dropout, and when samples become copies.

Each number is one that a paper published, or one that was measured with `quick`; what neither tells is said to be unknown.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from ddpm_cli.build.network import build_network
from ddpm_cli.core.wording import counted
from ddpm_cli.models.cost import parameter_count
from ddpm_cli.results.advice import DataAdvice, Point

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.images import Dataset

PRESET = "quick"
MEASURED_IMAGES, MEASURED_SEEN = 1_000, 51_200
"""`quick` with 800 steps of 64 images, on 1,000 clothes: 0 of 300 samples flagged by `nearest`, with both seeds."""
MEASURED_IN = "examples/experiments/metrics (the first quick, 1,000 clothes)"
SMALLER = "100 clothes seen 160 times by a smaller network: 0 of 200 flagged (examples/experiments/few-pictures, one seed)"
LARGE_SET, LARGE_SET_IN = 50_000, "Ho et al. 2020, App. B: 35.7 million parameters on the 50,000 images of CIFAR-10"
KARRAS = "Karras et al. 2022, Tables 6 and 7"


class Published(NamedTuple):
    """Hold the settings of a training that was published."""

    name: str
    images: int
    augment: float
    dropout: float


PUBLISHED = (
    Published("AFHQ-v2 64x64", 15_000, 0.15, 0.25),
    Published("CIFAR-10", 50_000, 0.12, 0.13),
    Published("FFHQ 64x64", 70_000, 0.15, 0.05),
    Published("ImageNet 64x64", 1_281_167, 0.0, 0.10),
)
"""Of Karras et al. 2022, by the number of images."""


def advise(dataset: Dataset, config: Config, words: Sequence[str]) -> DataAdvice:
    """Say what to expect of training on a data set.

    Args:
        dataset: The images.
        config: Of the preset, with these data.
        words: Of a command line, which name the data as the user did: `--data photos --size 64`.
    Raises:
        ConfigError: If the preset's network cannot be built for such images.
    """
    train = dataset.train
    images, distinct = len(train), distinct_images(train.images)
    with torch.device("meta"):
        parameters = parameter_count(build_network(config, dataset.image_shape))
    sizes = np.bincount(train.labels, minlength=len(train.class_names)) if len(train.class_names) > 1 else None
    like = min(PUBLISHED, key=lambda other: abs(math.log(other.images / distinct)))
    augment = 0.0 if 1 in dataset.image_shape[1:] else like.augment
    epochs = math.ceil(MEASURED_SEEN / min(distinct, MEASURED_IMAGES))
    settings = [f"data.augment={augment:g}"] if augment else []
    command = ["ddpm", "train", "--preset", PRESET, *words, f"--epochs={epochs}", *(f"--set={text}" for text in settings)]
    points = [
        Point("copies among the images", _repeats(images, distinct), "counted: the same pixels, as training sees them"),
        _epochs_point(distinct, epochs, math.ceil(epochs * images / config.train.batch_size)),
        _copies_point(distinct),
        Point("augmentation", f"data.augment={augment:g}", _reason(like) if augment == like.augment else "nothing to turn"),
        Point("dropout", f"0; if the held-out loss rises, model.dropout={like.dropout:g}", _reason(like)),
        Point("batch size", f"{config.train.batch_size}", f"the preset {PRESET}'s (examples/experiments/quick-recipe)"),
        _network_point(distinct, parameters),
        _held_out_point(len(dataset.test)),
        *([_class_point(sizes)] if sizes is not None else []),
    ]
    return DataAdvice(
        source=dataset.source,
        train_images=images,
        distinct_images=distinct,
        held_out_images=len(dataset.test),
        image_shape=dataset.image_shape,
        classes=0 if sizes is None else len(sizes),
        smallest_class=None if sizes is None else int(sizes.min()),
        preset=PRESET,
        parameters=parameters,
        batch_size=config.train.batch_size,
        epochs=epochs,
        steps=math.ceil(epochs * images / config.train.batch_size),
        augment=augment,
        dropout=like.dropout,
        points=tuple(points),
        unknown=tuple(_unknown(dataset, distinct)),
        command=shlex.join(command),
    )


def distinct_images(images: NDArray[np.uint8]) -> int:
    """Count the images that differ in their pixels from all others before them, [N, C, H, W]."""
    return len({hash(image.tobytes()) for image in images})


def _repeats(images: int, distinct: int) -> str:
    if images == distinct:
        return f"none among {counted(images, 'image')}"
    return f"{images - distinct:,} of {counted(images, 'image')}: {distinct:,} differ. Leave the copies out"


def _epochs_point(distinct: int, epochs: int, steps: int) -> Point:
    advice = f"{epochs:,} epochs at most, which are {steps:,} steps"
    if distinct < MEASURED_IMAGES:
        return Point(
            "budget", advice, f"{MEASURED_SEEN:,} images seen had a precision of 0.42, a quarter of them 0.02: {MEASURED_IN}"
        )
    return Point("budget", f"{advice}; the preset's clock may end it earlier", MEASURED_IN)


def _copies_point(distinct: int) -> Point:
    per_image = MEASURED_SEEN / MEASURED_IMAGES
    scaling = "the steps until copies come grow with the number of images (Bonnaire et al. 2025)"
    if distinct >= MEASURED_IMAGES:
        return Point(
            "when samples become copies", f"not within {per_image:.0f} epochs: 0 of 300 flagged", f"{MEASURED_IN}; {scaling}"
        )
    return Point(
        "when samples become copies",
        f"perhaps within this budget: each image is seen {MEASURED_SEEN / distinct:,.0f} times, and {per_image:.0f} times were "
        "without copies. Look: ddpm evaluate --metrics nearest",
        f"{MEASURED_IN}; {SMALLER}; {scaling}",
    )


def _reason(like: Published) -> str:
    return f"{KARRAS}: {like.name}, about {like.images:,} images, the nearest in number"


def _network_point(distinct: int, parameters: int) -> Point:
    advice = f"{PRESET}, {parameters:,} parameters"
    if distinct < LARGE_SET:
        return Point("network", advice, f"larger ones lost at equal time (examples/experiments/quick-recipe); {LARGE_SET_IN}")
    return Point("network", f"{advice}; on a GPU one as large as paper-cifar10", LARGE_SET_IN)


def _held_out_point(held_out: int) -> Point:
    least = 999
    why = f"nearest flags one in a thousand by chance with {least} held-out images or more (Vovk et al. 2005)"
    if held_out >= least:
        return Point("held-out images", f"{held_out:,} are enough for nearest", why)
    if held_out:
        return Point("held-out images", f"{held_out:,}: nearest flags one in {held_out + 1:,} by chance", why)
    return Point("held-out images", "none: nearest cannot judge, and the loss has no check; hold some out (data.held_out)", why)


def _class_point(sizes: NDArray[np.int64]) -> Point:
    least, most = f"{sizes.min():,}", f"{sizes.max():,}"
    advice = f"{len(sizes)} classes of {least if least == most else f'{least} to {most}'} images; "
    advice += "--set model.num_classes=auto draws by class"
    return Point("classes", advice, "counted")


def _unknown(dataset: Dataset, distinct: int) -> list[str]:
    height, width = dataset.image_shape[1:]
    lines = [
        "How good the samples will be: measure them with ddpm evaluate.",
        "Copies that differ in a pixel: they are not looked for.",
    ]
    if distinct < MEASURED_IMAGES:
        lines.append(f"When copies begin below {MEASURED_IMAGES:,} images: it was not measured.")
    if max(height, width) > 32:
        lines.append(f"Whether {PRESET}'s network suffices for {height}x{width}: it was measured with 28x28.")
    lines.append("Whether mirrored images belong to the data, as data.horizontal_flip supposes: look at them.")
    return lines
