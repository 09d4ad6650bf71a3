from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ddpm_cli.data.sources.fashion_mnist import load_fashion_mnist_10k
from ddpm_cli.errors import RequestError
from ddpm_cli.metrics.classifier import load_bundled
from ddpm_cli.metrics.memorisation import NEIGHBOURS, Verdicts, memorised, relative_distances
from ddpm_cli.metrics.nearest import nearest_few

Embed = Callable[[torch.Tensor], torch.Tensor]


def features() -> Embed:
    extractor = load_bundled(torch.device("cpu"))
    return lambda images: extractor(images).features


@pytest.fixture(scope="module", params=["pixels", "features"])
def judge(request: pytest.FixtureRequest) -> Callable[[torch.Tensor], Verdicts]:
    """Judge images of Fashion-MNIST by 4,000 training images and 1,900 held-out ones, in pixels or in features."""
    embed: Embed = features() if request.param == "features" else lambda images: images.flatten(1)
    data = load_fashion_mnist_10k()
    training = embed(torch.from_numpy(data.train.images[:4000].copy()))

    def scores(images: torch.Tensor) -> torch.Tensor:
        return relative_distances(nearest_few(embed(images), training, NEIGHBOURS)[0])

    held_out = scores(torch.from_numpy(data.test.images[:1900].copy()))
    return lambda images: memorised(scores(images), held_out)


def test_planted_copies_are_found_and_new_images_are_not(judge: Callable[[torch.Tensor], Verdicts]) -> None:
    """At the default rate each of 100 new images is flagged with a chance of 0.001, so that one is in 1 of 10 such tests."""
    data = load_fashion_mnist_10k()
    copies = torch.from_numpy(data.train.images[1000:1100].copy())
    new = torch.from_numpy(data.test.images[1900:].copy())
    assert int(judge(copies).flagged.sum()) == 100
    assert int(judge(new).flagged.sum()) == 0


def test_noisy_copies_are_found_in_pixels_by_the_relative_distance() -> None:
    """The distance alone finds 37 of these 100, because it asks for the same distance everywhere."""
    data = load_fashion_mnist_10k()
    training = torch.from_numpy(data.train.images[:4000].copy())
    noise = 16 * torch.randn(100, *training.shape[1:], generator=torch.Generator().manual_seed(0))
    noisy = (training[:100] + noise).round().clamp(0, 255).to(torch.uint8)
    held_out = torch.from_numpy(data.test.images.copy())
    distances = [nearest_few(images.flatten(1), training.flatten(1), NEIGHBOURS)[0] for images in (noisy, held_out)]
    by_ratio = memorised(relative_distances(distances[0]), relative_distances(distances[1])).flagged.sum()
    by_distance = memorised(distances[0][:, 0], distances[1][:, 0]).flagged.sum()
    assert by_ratio > 90
    assert by_distance < 60


def test_p_values_by_hand() -> None:
    verdicts = memorised(torch.tensor([0.0, 1.0, 1.5, 9.0]), torch.tensor([3.0, 1.0, 2.0, 4.0]), false_alarm_rate=0.4)
    assert verdicts.p_values.tolist() == [0.2, 0.4, 0.4, 1.0]
    assert verdicts.flagged.tolist() == [True, True, True, False]
    assert verdicts.false_alarm_rate == 0.4


def test_too_few_held_out_images_raise_the_rate() -> None:
    verdicts = memorised(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0, 3.0, 4.0]), false_alarm_rate=0.001)
    assert verdicts.false_alarm_rate == 0.2
    assert verdicts.flagged.tolist() == [True, False]
    with pytest.raises(RequestError, match="held-out"):
        memorised(torch.tensor([0.0]), torch.tensor([]))


def test_new_images_are_flagged_as_often_as_stated() -> None:
    """Of 20,000 draws, 1,000 are expected at a rate of 0.05; a deviation by 4 standard errors has a chance of 1e-4."""
    generator = torch.Generator().manual_seed(0)
    flagged = sum(
        int(memorised(torch.rand(1, generator=generator), torch.rand(99, generator=generator), 0.05).flagged.sum())
        for _ in range(20_000)
    )
    assert abs(flagged - 1000) < 4 * (20_000 * 0.05 * 0.95) ** 0.5


def test_relative_distances_of_copies_of_copies_are_0() -> None:
    distances = torch.tensor([[0.0, 0.0], [0.0, 2.0], [1.0, 3.0]])
    assert relative_distances(distances).tolist() == [0, 0, 0.5]
