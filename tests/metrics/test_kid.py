from __future__ import annotations

import pytest
import torch

from ddpm_cli.errors import RequestError, ShapeError
from ddpm_cli.metrics.kid import kernel_distance, squared_mmd, usable_subset_size


def test_a_case_by_hand() -> None:
    """One dimension: k(a, b) = (ab + 1)^3. Pairs: k(1, 2) = 27 within x; k(0, 3) = 1 within y; 1, 64, 1, 343 across."""
    x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [3.0]])
    assert squared_mmd(x, y) == pytest.approx(27 + 1 - 2 * (1 + 64 + 1 + 343) / 4)


def test_expectation_is_0_for_sets_of_one_kind_and_not_for_others() -> None:
    generator = torch.Generator().manual_seed(0)
    real, same, other = (torch.randn(400, 8, generator=generator) + shift for shift in (0, 0, 0.5))
    mean, deviation = kernel_distance(real, same, subset_size=100)
    assert abs(mean) < 0.03  # over 60 pairs of sets it deviated by 0.0084: beyond 0.03 lies less than 1 of 1,000
    assert deviation > 0
    assert kernel_distance(real, other, subset_size=100)[0] > 0.1


def test_subsets_shrink_only_by_request() -> None:
    few = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(RequestError, match=r"1,000 images cannot be drawn from 5"):
        kernel_distance(few, few)
    size = usable_subset_size(5, 8)
    assert size == 5
    assert kernel_distance(few, few, subset_size=size)[1] == pytest.approx(0, abs=1e-12)
    with pytest.raises(RequestError):
        kernel_distance(few, few, subset_size=1)
    with pytest.raises(ShapeError):
        kernel_distance(few, few[:, :2], subset_size=5)
