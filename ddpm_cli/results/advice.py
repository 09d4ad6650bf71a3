"""Hold what `ddpm data advise` says of a data set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """Hold one piece of advice.

    Attributes:
        about: What it is about.
        advice: What to do, or to expect.
        reason: The paper or the measurement that it comes from.
    """

    about: str
    advice: str
    reason: str


@dataclass(frozen=True)
class DataAdvice:
    """Hold all advice on a data set.

    Attributes:
        source: Where the images came from.
        train_images: Images to train on.
        distinct_images: Those of them that differ in their pixels from all before.
        held_out_images: Images held out.
        image_shape: Channels, height and width.
        classes: Number of classes, 0 where there are none.
        smallest_class: Training images of the smallest class; None without classes.
        preset: Which preset to begin with.
        parameters: Of its network for these images.
        batch_size: Images of a step.
        epochs: Passes over the images, at most.
        steps: The same in optimizer steps.
        augment: Probability for data.augment.
        dropout: Probability for model.dropout, once the held-out loss rises.
        points: The advice, point by point.
        unknown: What nobody has measured, or no program can tell.
        command: A line that trains by the advice.
    """

    source: str
    train_images: int
    distinct_images: int
    held_out_images: int
    image_shape: tuple[int, int, int]
    classes: int
    smallest_class: int | None
    preset: str
    parameters: int
    batch_size: int
    epochs: int
    steps: int
    augment: float
    dropout: float
    points: tuple[Point, ...]
    unknown: tuple[str, ...]
    command: str
