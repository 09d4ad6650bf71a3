from __future__ import annotations

import math

import pytest
import torch

from ddpm_cli.diffusion.editing.slerp import slerp


def noise() -> torch.Tensor:
    return torch.randn(3, 1, 8, 8, dtype=torch.float64)


def lengths(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1).norm(dim=1)


def test_ends_are_the_two_noises() -> None:
    x, y = noise(), noise()
    torch.testing.assert_close(slerp(x, y, 0.0), x)
    torch.testing.assert_close(slerp(x, y, 1.0), y)


def test_lengths_stay_and_the_angle_grows_evenly() -> None:
    x = noise()
    y = noise()
    y *= (lengths(x) / lengths(y)).view(-1, 1, 1, 1)
    angle = torch.arccos((x * y).flatten(1).sum(1) / lengths(x) ** 2)
    for share in (0.1, 0.5, 0.8):
        between = slerp(x, y, share)
        torch.testing.assert_close(lengths(between), lengths(x))
        torch.testing.assert_close(torch.arccos((x * between).flatten(1).sum(1) / lengths(x) ** 2), share * angle)


def test_halfway_between_right_angles_is_known() -> None:
    x, y = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
    torch.testing.assert_close(slerp(x, y, 0.5), torch.full((1, 1, 1, 2), math.sqrt(0.5)))


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0])
def test_parallel_noises_make_a_line_and_no_nan(factor: float) -> None:
    x = noise()
    torch.testing.assert_close(slerp(x, factor * x, 0.25), (0.75 + 0.25 * factor) * x)
