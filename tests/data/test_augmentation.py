"""Augmentation against a loop over pixels, and as a pure function of seed, step and place."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_configs import tiny_config

from ddpm_cli.build.data import build_augmentation
from ddpm_cli.build.network import build_network
from ddpm_cli.config.schema.data import Transformation
from ddpm_cli.data.augmentation import OWNERS, TRANSFORMATIONS, Augmentation, augmented, condition
from ddpm_cli.data.batches import Batches
from ddpm_cli.data.scale import Scale
from ddpm_cli.errors import ConfigError

Matrix = NDArray[np.float64]

NOTHING = [0.0] * 8
CASES = {
    "mirrored": [1, 0, 0, 0, 0, 0, 0, 0],
    "larger": [0, 0, 1.5, 0, 0, 0, 0, 0],
    "smaller": [0, 0, -1.5, 0, 0, 0, 0, 0],
    "rotated": [0, 0, 0, 0.6, 0, 0, 0, 0],
    "stretched": [0, 0, 0, 0, 0.8, -1.2, 0, 0],
    "shifted": [0, 0, 0, 0, 0, 0, 0.7, -1.3],
    "all": [1, 1, 0.4, -2.0, 0.3, 0.9, -0.5, 0.2],
}


def homogeneous(linear: Matrix, shift: tuple[float, float] = (0, 0)) -> Matrix:
    result = np.eye(3)
    result[:2, :2], result[:2, 2] = linear, shift
    return result


def rotation(angle: float) -> Matrix:
    return homogeneous(np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]))


def table_6(a: list[float], height: int, width: int) -> Matrix:
    """The product of the paper's matrices, the first of the table applied first."""
    grown, longer = (2**0.2) ** a[2], (2**0.2) ** a[5]
    rows = [
        homogeneous(np.diag([1 - 2 * a[0], 1])),
        homogeneous(np.diag([1, 1 - 2 * a[1]])),
        homogeneous(np.diag([grown, grown])),
        rotation(-a[3]),
        rotation(a[4]) @ homogeneous(np.diag([longer, 1 / longer])) @ rotation(-a[4]),
        homogeneous(np.eye(2), (a[6] * width / 8, a[7] * height / 8)),
    ]
    product = np.eye(3)
    for matrix in rows:
        product = matrix @ product
    return product


def keys(distance: float) -> float:
    """The weight of a pixel in cubic convolution (Keys 1981, Eq. 4) with the slope -3/4 at 1."""
    x, slope = abs(distance), -0.75
    if x <= 1:
        return (slope + 2) * x**3 - (slope + 3) * x**2 + 1
    return slope * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def reflected(index: int, size: int) -> int:
    index %= 2 * size
    return index if index < size else 2 * size - 1 - index


def at(image: Matrix, x: float, y: float) -> float:
    """The value of an image between its pixels, whose centres are at whole numbers."""
    columns, rows = (range(math.floor(place) - 1, math.floor(place) + 3) for place in (x, y))
    height, width = image.shape
    return sum(
        keys(x - column) * keys(y - row) * image[reflected(row, height), reflected(column, width)]
        for row in rows
        for column in columns
    )


def by_loop(image: Matrix, a: list[float]) -> Matrix:
    height, width = image.shape
    back = np.linalg.inv(table_6(a, height, width))
    shrinks = a[2] < abs(a[5])
    offsets = (-0.25, 0.25) if shrinks else (0.0,)
    result = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            values = []
            for down in offsets:
                for right in offsets:
                    place = back @ (column + right - (width - 1) / 2, row + down - (height - 1) / 2, 1)
                    values.append(at(image, place[0] + (width - 1) / 2, place[1] + (height - 1) / 2))
            result[row, column] = np.mean(values)
    return result.clip(-1, 1)


@pytest.mark.parametrize("a", CASES.values(), ids=CASES)
def test_the_warp_equals_a_loop_over_pixels(a: list[float]) -> None:
    images = torch.rand(2, 2, 6, 9, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = augmented(images, torch.tensor([NOTHING, a]))
    assert torch.equal(found[0], images[0])
    for channel in range(2):
        expected = by_loop(images[1, channel].double().numpy(), a)
        np.testing.assert_allclose(found[1, channel].numpy(), expected, atol=2e-5)
    assert not torch.equal(found[1], images[1])


def test_flips_move_pixels_and_nothing_else() -> None:
    images = torch.rand(4, 3, 5, 7) * 2 - 1
    a = torch.tensor([[x, y, 0, 0, 0, 0, 0, 0] for x in (0.0, 1.0) for y in (0.0, 1.0)])
    found = augmented(images, a)
    expected = [images[0], images[1].flip(-2), images[2].flip(-1), images[3].flip(-1, -2)]
    assert torch.equal(found, torch.stack(expected))


def test_nothing_to_do_costs_nothing() -> None:
    images = torch.rand(3, 1, 4, 4)
    assert augmented(images, torch.zeros(3, 8)) is images


def test_the_vector_is_zero_exactly_where_nothing_was_applied() -> None:
    a = Augmentation(0.2).draw(seed=1, step=0, batch_size=2000)
    untouched = (a == 0).all(dim=1)
    assert 0.2 < untouched.float().mean() < 0.5
    assert torch.equal((condition(a) == 0).all(dim=1), untouched)
    images = torch.rand(2000, 1, 4, 4) * 2 - 1
    assert torch.equal((augmented(images, a) == images).flatten(1).all(dim=1), untouched)


def test_each_transformation_has_its_probability() -> None:
    n, probability = 20_000, 0.12
    a = Augmentation(probability).draw(seed=0, step=0, batch_size=n)
    shares = (a != 0).float().mean(dim=0)
    expected = torch.tensor([probability / 2] * 2 + [probability] * 6)
    # 5 deviations of a binomial: false alarms below 1e-5, and the seed is fixed.
    assert ((shares - expected).abs() < 5 * (expected * (1 - expected) / n).sqrt()).all()
    for name in TRANSFORMATIONS:
        alone = Augmentation(0.5, (name,)).draw(seed=0, step=0, batch_size=100)
        touched = {TRANSFORMATIONS[OWNERS[column]] for column in range(8) if alone[:, column].any()}
        assert touched == {name}


def test_the_config_names_the_transformations_that_there_are() -> None:
    assert get_args(Transformation) == TRANSFORMATIONS


def batches(**options: object) -> Batches:
    images = torch.randint(0, 256, (10, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Batches(images, batch_size=8, seed=3, augmentation=Augmentation(0.5), **options)  # type: ignore[arg-type]


def test_parts_of_a_batch_are_augmented_as_the_whole() -> None:
    """So that two processes, and micro-batches, see what one does; and a run that resumes what it would have seen."""
    whole, other = batches(horizontal_flip=True), batches(horizontal_flip=True)
    for step in (5, 0):
        parts = [slice(0, 3), slice(3, 8)]
        assert torch.equal(torch.cat([other.images_at(step, part) for part in parts]), whole.images_at(step))
        vectors = [vector for part in parts if (vector := other.vectors_at(step, part)) is not None]
        expected = whole.vectors_at(step)
        assert expected is not None
        assert torch.equal(torch.cat(vectors), expected)
    assert not torch.equal(whole.images_at(0), whole.images_at(5))


@pytest.mark.parametrize("scale", [Scale(), Scale(0.0, 3.0, "uint8"), Scale(-5.0, 1000.0, "uint16")])
def test_for_a_bound_pixels_lie_on_the_grid_of_stored_values_the_nearest(scale: Scale) -> None:
    """What was not moved stays to the bit."""
    free, bound = batches(scale=scale), batches(scale=scale, on_grid=True)
    assert scale.levels is not None
    for step in range(3):
        moved, rounded = free.images_at(step).double(), bound.images_at(step).double()
        places = (rounded + 1) * ((scale.levels - 1) / 2)
        assert (places - places.round()).abs().max() < 1e-4 * scale.levels
        stored = (moved >= bound.scale.normalise(torch.tensor(0))) & (moved <= bound.scale.normalise(torch.tensor(255)))
        assert (rounded - moved)[stored].abs().max() <= 1 / (scale.levels - 1) + 1e-6
        still = (bound.vectors_at(step) == 0).all(dim=1)  # type: ignore[union-attr]
        assert torch.equal(moved[still], rounded[still])
    assert not torch.equal(free.images_at(0), bound.images_at(0))


def test_floats_have_no_grid() -> None:
    assert not batches(scale=Scale(0.0, 1.0, "float32"), on_grid=True).on_grid


def test_the_network_is_told_by_a_map_that_says_nothing_of_images_as_they_are() -> None:
    shape = (1, 8, 8)
    torch.manual_seed(0)
    told = build_network(tiny_config("data.augment=0.1"), shape)
    torch.manual_seed(0)
    plain = build_network(tiny_config(), shape)
    new = told.state_dict().keys() - plain.state_dict().keys()
    assert new == {"augmentation_embedding.weight"}
    assert all(torch.equal(value, told.state_dict()[name]) for name, value in plain.state_dict().items())
    with torch.no_grad():
        for parameter in told.parameters():
            parameter.normal_(std=0.1)
        x, t = torch.randn(2, *shape), torch.tensor([1, 5])
        zero, one = torch.zeros(2, 9), torch.ones(2, 9)
        assert torch.equal(told(x, t, augmentation=zero), told(x, t))
        assert not torch.equal(told(x, t, augmentation=one), told(x, t))


def test_a_single_row_of_pixels_is_refused() -> None:
    data = tiny_config("data.augment=0.1").data
    with pytest.raises(ConfigError, match="nothing to turn in pictures of 1x1"):
        build_augmentation(data, (3, 1, 1))
    assert build_augmentation(tiny_config().data, (3, 1, 1)) is None


@pytest.mark.parametrize("value", ["1.5", "-0.1", "nan", "often"])
def test_a_probability_is_one(value: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.augment"):
        tiny_config(f"data.augment={value}")
