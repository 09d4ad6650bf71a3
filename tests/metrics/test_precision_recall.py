from __future__ import annotations

import pytest
import torch

from ddpm_cli.errors import RequestError, ShapeError
from ddpm_cli.metrics import precision_recall as module
from ddpm_cli.metrics.precision_recall import precision_recall


def cloud(n: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed)) + shift


def test_identical_and_disjoint_clouds() -> None:
    assert precision_recall(cloud(50, 0), cloud(50, 0)) == (1, 1)
    assert precision_recall(cloud(50, 0), cloud(50, 1, shift=100)) == (0, 0)


def test_points_on_a_line_by_hand() -> None:
    """Real 0, 1, 2 with k = 1 reach [-1, 3]; generated 0, 0.1 and 9 reach [-0.1, 0.2] and [0.1, 17.9]."""
    real = torch.tensor([[0.0], [1.0], [2.0]])
    generated = torch.tensor([[0.0], [0.1], [9.0]])
    precision, recall = precision_recall(real, generated, neighbours=1)
    assert precision == pytest.approx(2 / 3)
    assert recall == pytest.approx(1)
    assert precision_recall(real, generated[:2], neighbours=1) == pytest.approx((1, 1 / 3))


def test_copies_of_one_image_have_precision_and_no_recall() -> None:
    precision, recall = precision_recall(cloud(50, 0), cloud(50, 0)[:1].repeat(20, 1))
    assert precision == 1
    assert recall <= 1 / 50


def test_parts_give_what_all_at_once_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated = cloud(101, 0), cloud(70, 1, shift=1.0)
    whole = precision_recall(real, generated)
    assert 0.1 < whole[0] < 0.9
    monkeypatch.setattr(module, "_TABLE_ENTRIES", 700)
    assert precision_recall(real, generated) == whole


def test_too_few_images_are_refused() -> None:
    with pytest.raises(RequestError, match="at least 4"):
        precision_recall(cloud(3, 0), cloud(50, 0))
    with pytest.raises(ShapeError):
        precision_recall(cloud(9, 0), cloud(9, 0)[:, :2])
