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


def by_definition(real: torch.Tensor, generated: torch.Tensor, neighbours: int = 3) -> tuple[float, float]:
    """Eq. 1 and 2 of the paper, in integers or float64, without products."""

    def distances(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        return (rows[:, None].double() - columns.double()).square().sum(-1)

    def covered(points: torch.Tensor, centres: torch.Tensor) -> float:
        radii = distances(centres, centres).sort(dim=1).values[:, neighbours]
        return float((distances(points, centres) <= radii).any(dim=1).double().mean())

    return covered(generated, real), covered(real, generated)


def grid_points(n: int, seed: int, low: int, high: int, dimensions: int) -> torch.Tensor:
    return torch.randint(low, high, (n, dimensions), generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("dimensions", [2, 3, 64])
def test_ties_on_an_integer_grid_count(dimensions: int, offset: float) -> None:
    real, generated = grid_points(60, 0, 0, 9, dimensions) + offset, grid_points(50, 1, 2, 12, dimensions) + offset
    expected = by_definition(real, generated)
    assert precision_recall(real, generated) == expected
    assert dimensions == 64 or 0 < expected[0] < 1


def test_copies_in_balls_of_radius_0_are_inside() -> None:
    """Each real image four times: its third neighbour is a copy, and so its ball is the point itself."""
    real = cloud(20, 0).repeat_interleave(4, dim=0)
    generated = torch.cat([real[:40:4], cloud(10, 7)])
    assert precision_recall(real, generated) == (0.5, by_definition(real, generated)[1])
    assert precision_recall(real, real.flip(0)) == (1, 1)


def test_clouds_agree_with_the_definition() -> None:
    real, generated = cloud(200, 0), cloud(150, 1, shift=0.7)
    assert precision_recall(real, generated) == by_definition(real, generated)


def test_copies_of_one_image_have_precision_and_no_recall() -> None:
    precision, recall = precision_recall(cloud(50, 0), cloud(50, 0)[:1].repeat(20, 1))
    assert precision == 1
    assert recall <= 1 / 50


def test_parts_give_what_all_at_once_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated = cloud(101, 0), cloud(70, 1, shift=1.0)
    whole = precision_recall(real, generated)
    assert 0.1 < whole[0] < 0.9
    monkeypatch.setattr(module, "TABLE_ENTRIES", 700)
    assert precision_recall(real, generated) == whole


def test_too_few_images_are_refused() -> None:
    with pytest.raises(RequestError, match="at least 4"):
        precision_recall(cloud(3, 0), cloud(50, 0))
    with pytest.raises(ShapeError):
        precision_recall(cloud(9, 0), cloud(9, 0)[:, :2])
