from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from ddpm_cli.errors import RequestError, ShapeError
from ddpm_cli.metrics.frechet import FrechetStatistics, frechet_distance


def features(n: int, dimensions: int, seed: int, spread: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(dimensions, dimensions, generator=generator) / dimensions**0.5
    return (spread * torch.randn(n, dimensions, generator=generator) @ mix + 0.1).relu()


def statistics(*batches: torch.Tensor) -> FrechetStatistics:
    result = FrechetStatistics(batches[0].shape[1])
    for batch in batches:
        result.add(batch)
    return result


def by_sqrtm(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    root = sqrtm(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False)).real
    shift = x.mean(axis=0) - y.mean(axis=0)
    return float(shift @ shift + np.trace(np.cov(x, rowvar=False) + np.cov(y, rowvar=False) - 2 * root))


@pytest.mark.parametrize("dimensions", [1, 2, 64, 192])
def test_distance_is_that_of_scipys_matrix_square_root(dimensions: int) -> None:
    x, y = features(700, dimensions, seed=1), features(600, dimensions, seed=2, spread=1.3)
    if dimensions == 1:
        variances, means = [float(z.double().var()) for z in (x, y)], [float(z.double().mean()) for z in (x, y)]
        expected = (means[0] - means[1]) ** 2 + (variances[0] ** 0.5 - variances[1] ** 0.5) ** 2
    else:
        expected = by_sqrtm(x.double().numpy(), y.double().numpy())
    assert frechet_distance(statistics(x), statistics(y)) == pytest.approx(expected, rel=1e-6)


def gaussian(mean: torch.Tensor, covariance: torch.Tensor) -> FrechetStatistics:
    tensors = {"count": torch.tensor(11), "mean": mean, "scatter": 10 * covariance}
    return FrechetStatistics.from_tensors(tensors)


def test_distance_of_two_gaussians_in_closed_form() -> None:
    a = gaussian(torch.tensor([0.0, 1.0, 2.0]).double(), torch.diag(torch.tensor([1.0, 4.0, 9.0])).double())
    b = gaussian(torch.tensor([3.0, 1.0, 2.0]).double(), torch.diag(torch.tensor([4.0, 4.0, 0.25])).double())
    assert frechet_distance(a, b) == pytest.approx(9 + 1 + 0 + 2.5**2, rel=1e-12)


def test_distance_of_singular_covariances_in_closed_form() -> None:
    """Both covariances have rank one: of u u^T and v v^T the root's trace is |u . v|."""
    u, v = features(1, 50, seed=3).double()[0], features(1, 50, seed=4).double()[0]
    zero = torch.zeros(50, dtype=torch.float64)
    distance = frechet_distance(gaussian(zero, torch.outer(u, u)), gaussian(zero, torch.outer(v, v)))
    assert distance == pytest.approx(float(u @ u + v @ v - 2 * (u @ v).abs()), rel=1e-9)


def test_fewer_images_than_dimensions() -> None:
    """The trace of the root from the singular values of the data themselves, without any covariance."""
    x, y = features(20, 100, seed=5).double(), features(30, 100, seed=6).double()
    roots = [(z - z.mean(dim=0)) / (len(z) - 1) ** 0.5 for z in (x, y)]
    shift = x.mean(dim=0) - y.mean(dim=0)
    expected = shift @ shift + sum(root.square().sum() for root in roots) - 2 * torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    assert frechet_distance(statistics(x), statistics(y)) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("n", [50, 5000])
def test_identical_sets_have_distance_0(n: int) -> None:
    x = features(n, 128, seed=7) + 100
    assert frechet_distance(statistics(x), statistics(*x.flip(0).chunk(7))) == pytest.approx(0, abs=1e-6)


def test_sets_of_equal_images_have_the_distance_of_their_means() -> None:
    a, b = statistics(torch.zeros(5, 3)), statistics(torch.full((4, 3), 2.0))
    assert frechet_distance(a, b) == pytest.approx(12)


def test_batches_and_merged_parts_give_what_all_at_once_gives() -> None:
    x = features(1000, 16, seed=8) + 1e4  # far from the origin, where sums of squares in float32 would cancel
    whole = x.double().numpy()
    batches = statistics(*x.split(37))
    merged = FrechetStatistics(16)
    for part in (statistics(*x[:300].split(50)), FrechetStatistics(16), statistics(x[300:])):
        merged.merge(part)
    for result in (batches, merged):
        assert result.count == 1000
        np.testing.assert_allclose(result.mean.numpy(), whole.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(result.covariance.numpy(), np.cov(whole, rowvar=False), rtol=1e-9, atol=1e-10)


def test_stored_statistics_come_back_bit_for_bit() -> None:
    before = statistics(features(10, 4, seed=9))
    after = FrechetStatistics.from_tensors({name: tensor.clone() for name, tensor in before.tensors().items()})
    assert after.count == before.count
    assert torch.equal(after.mean, before.mean)
    assert torch.equal(after.covariance, before.covariance)
    after.add(features(5, 4, seed=10))
    assert before.count == 10


@pytest.mark.parametrize(
    "change",
    [{"mean": None}, {"mean": torch.zeros(3)}, {"scatter": torch.zeros(4, 3).double()}, {"count": torch.tensor(1.0)}],
)
def test_other_tensors_are_refused(change: dict[str, torch.Tensor | None]) -> None:
    tensors = {**statistics(features(10, 4, seed=9)).tensors(), **change}
    with pytest.raises(ShapeError):
        FrechetStatistics.from_tensors({name: tensor for name, tensor in tensors.items() if tensor is not None})


def test_what_cannot_be_compared_is_refused() -> None:
    good = statistics(features(10, 4, seed=9))
    with pytest.raises(ShapeError, match="4 and 5"):
        frechet_distance(good, statistics(features(10, 5, seed=9)))
    with pytest.raises(RequestError, match="two images"):
        frechet_distance(good, statistics(features(1, 4, seed=9)))
    with pytest.raises(ShapeError, match="finite"):
        frechet_distance(good, statistics(torch.full((3, 4), torch.nan)))
    with pytest.raises(ShapeError, match="3"):
        good.add(torch.zeros(2, 3))
    with pytest.raises(ShapeError, match="do not fit"):
        good.merge(FrechetStatistics(3))
