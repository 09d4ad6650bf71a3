from __future__ import annotations

import hashlib
from dataclasses import replace

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


def sorted_by_class(counts: dict[str, int]) -> Dataset:
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Dataset("sorted", "a file", ImageSet(images, labels, tuple(counts)), tiny(3), images_sha256(images))


def test_limit_takes_the_same_share_of_each_class_and_keeps_the_order() -> None:
    limited = with_limit(sorted_by_class({"a": 40, "b": 100, "c": 60}), 20, evenly=True)
    assert np.bincount(limited.train.labels).tolist() == [4, 10, 6]
    assert (np.diff(limited.train.images[:, 0, 0, 0].astype(int)) > 0).all()
    assert limited.source == "a file, 20 training images taken evenly from it"
    assert limited.sha256 == images_sha256(limited.train.images)
    assert limited.notices == ()


@pytest.mark.parametrize(("evenly", "left"), [(True, "1 class: rare"), (False, "2 classes: b, rare")])
def test_classes_that_a_limit_leaves_out_are_told(evenly: bool, left: str) -> None:
    limited = with_limit(sorted_by_class({"a": 100, "b": 100, "rare": 1}), 10, evenly=evenly)
    assert limited.notices == (f"data.limit leaves no training image of {left}.",)


@pytest.mark.parametrize(
    ("evenly", "by_content", "limit", "said"),
    [
        (True, False, 1, "1 training image taken evenly from it"),
        (False, True, 2, "2 training images chosen by a sum of their content"),
        (False, True, 1, "1 training image chosen by a sum of their content"),
        (False, False, 2, "the first 2 training images"),
        (False, False, 1, "the first training image"),
    ],
)
def test_what_a_limit_takes_is_said(dataset: Dataset, evenly: bool, by_content: bool, limit: int, said: str) -> None:
    limited = with_limit(replace(dataset, by_content=by_content), limit, evenly=evenly)
    assert limited.source == f"a test, {said}"


@pytest.mark.parametrize("limit", [6, 7])
def test_limit_beyond_the_set_changes_nothing(dataset: Dataset, limit: int) -> None:
    assert with_limit(dataset, limit) is dataset
