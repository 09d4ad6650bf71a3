from __future__ import annotations

import pytest
import torch

from ddpm_cli.errors import RequestError
from ddpm_cli.metrics.inception_score import inception_score


def test_images_that_say_nothing_score_1() -> None:
    assert inception_score(torch.zeros(100, 8)) == pytest.approx((1, 0))


def test_sure_images_of_all_classes_score_their_number() -> None:
    logits = 1e4 * torch.eye(8)[torch.arange(800) % 8]
    mean, deviation = inception_score(logits, splits=1)
    assert mean == pytest.approx(8)
    assert deviation == 0


def test_parts_are_shuffled() -> None:
    """In the order of their classes each part would be one class, and score 1."""
    logits = 1e4 * torch.eye(10)[torch.arange(1000) // 100]
    assert inception_score(logits)[0] > 9


def test_fewer_images_than_parts_are_refused() -> None:
    with pytest.raises(RequestError, match="9 images"):
        inception_score(torch.zeros(9, 8))
