from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm_cli.errors import RequestError, ShapeError
from ddpm_cli.metrics import nearest as module
from ddpm_cli.metrics.nearest import nearest, nearest_few


def pixels(n: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 30), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("parts", [2**25, 100])
def test_nearest_are_those_of_the_whole_table(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TABLE_ENTRIES", parts)
    monkeypatch.setattr(module, "PART_ENTRIES", parts)
    queries, references = pixels(40, 0), pixels(200, 1)
    table = torch.cdist(queries.double(), references.double(), compute_mode="donot_use_mm_for_euclid_dist")
    expected = table.topk(5, dim=1, largest=False)
    distances, indices = nearest_few(queries, references, 5)
    assert torch.equal(indices, expected.indices)
    assert torch.allclose(distances, expected.values, rtol=1e-12)
    one = nearest(queries, references)
    assert torch.equal(one[0], distances[:, 0])
    assert torch.equal(one[1], indices[:, 0])


def test_copies_have_distance_0_even_far_from_the_origin() -> None:
    references = 1e4 + torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    distances, indices = nearest(references[100:120], references)
    assert torch.equal(indices, torch.arange(100, 120))
    assert torch.equal(distances, torch.zeros(20, dtype=torch.float64))


def test_differences_that_float32_products_cannot_see_are_told_apart() -> None:
    """Products are about 1e9, where float32 has steps of 64; the squared distances are 1 and 4."""
    references = torch.full((5, 20_000), 250.0)
    references[:, 0] += torch.tensor([4.0, 3.0, 2.0, 1.0, 2.0])
    distances, indices = nearest(torch.full((1, 20_000), 250.0).repeat(2, 1), references)
    assert indices.tolist() == [3, 3]
    assert distances.tolist() == [1, 1]


def test_references_may_lie_in_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", pixels(50, 1).numpy())
    references = torch.from_numpy(np.load(tmp_path / "images.npy", mmap_mode="c"))
    assert torch.equal(nearest(pixels(3, 0), references)[0], nearest(pixels(3, 0), pixels(50, 1))[0])


def test_fewer_references_than_neighbours() -> None:
    distances, indices = nearest_few(pixels(4, 0), pixels(3, 1), 50)
    assert distances.shape == indices.shape == (4, 3)
    assert torch.equal(indices.sort(dim=1).values, torch.arange(3).expand(4, -1))


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ShapeError):
        nearest(pixels(4, 0), pixels(3, 1)[:, :5])
    for queries, references in ((pixels(0, 0), pixels(3, 1)), (pixels(3, 0), pixels(0, 1))):
        with pytest.raises(RequestError, match="no images"):
            nearest(queries, references)
