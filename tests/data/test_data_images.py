from __future__ import annotations

import hashlib

import numpy as np
import pytest

from ddpm_cli.data.images import Dataset, ImageSet, images_sha256, with_limit


def tiny(n: int) -> ImageSet:
    images = np.arange(n * 4, dtype=np.uint8).reshape(n, 1, 2, 2)
    return ImageSet(images, np.arange(n, dtype=np.int64) % 2, ("a", "b"))


@pytest.fixture
def dataset() -> Dataset:
    train = tiny(6)
    return Dataset("tiny", "a test", train, tiny(3), images_sha256(train.images), ("a notice",))


def test_sum_is_that_of_the_bytes_in_c_order() -> None:
    images = tiny(6).images
    assert images_sha256(images) == hashlib.sha256(images.tobytes()).hexdigest()
    assert images_sha256(images[::2]) == hashlib.sha256(images[::2].tobytes()).hexdigest()


def test_limit_keeps_the_first_training_images_only(dataset: Dataset) -> None:
    limited = with_limit(dataset, 4)
    assert len(limited.train) == 4
    np.testing.assert_array_equal(limited.train.images, dataset.train.images[:4])
    np.testing.assert_array_equal(limited.train.labels, dataset.train.labels[:4])
    assert limited.test is dataset.test
    assert limited.notices == dataset.notices
    assert "first 4" in limited.source


def test_limit_changes_the_sum(dataset: Dataset) -> None:
    assert with_limit(dataset, 4).sha256 == images_sha256(dataset.train.images[:4]) != dataset.sha256


@pytest.mark.parametrize("limit", [6, 7])
def test_limit_beyond_the_set_changes_nothing(dataset: Dataset, limit: int) -> None:
    assert with_limit(dataset, limit) is dataset
