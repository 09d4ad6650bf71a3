"""Passes side by side: the gradient of one pass, in the same bits whichever thread ends first."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from ddpm_cli.core.compute.side_by_side import SideBySide, computing_threads, sharing_weights, side_by_side


class Small(nn.Module):
    stateless = True

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3)
        self.unused = nn.Parameter(torch.ones(2))
        self.register_buffer("scale", torch.full((1,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x) * self.scale


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    with computing_threads(2):
        yield


@pytest.fixture
def network() -> Small:
    torch.manual_seed(0)
    return Small()


def both(network: Small) -> SideBySide:
    found = side_by_side(network, 32)
    assert found is not None
    return found


def images() -> Tensor:
    return torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def gradients(passes: SideBySide, slow: int | None = None) -> list[Tensor | None]:
    def work(network: nn.Module, number: int) -> None:
        time.sleep(0.05 * (number == slow))
        network(images()[16 * number : 16 * number + 16]).square().sum().backward()

    passes.run(work)
    found = [parameter.grad for parameter in passes.networks[0].parameters()]
    passes.networks[0].zero_grad()
    return found


def test_the_gradient_is_that_of_one_pass(network: Small) -> None:
    passes = both(network)
    found = gradients(passes)
    network(images()).square().sum().backward()
    for parameter, gradient in zip(network.parameters(), found, strict=True):
        torch.testing.assert_close(gradient, parameter.grad)
    assert all(parameter.grad is None for parameter in passes.networks[1].parameters())


def test_the_bits_do_not_depend_on_which_ends_first(network: Small) -> None:
    passes = both(network)
    first, second = gradients(passes, slow=0), gradients(passes, slow=1)
    assert torch.equal(first[1], second[1])  # type: ignore[arg-type]
    assert first[0] is None
    assert second[0] is None


def test_gradients_are_added_to_those_that_are_there(network: Small) -> None:
    passes = both(network)
    once = gradients(passes)
    for _ in range(2):
        passes.run(lambda twin, place: twin(images()[16 * place : 16 * place + 16]).square().sum().backward())
    torch.testing.assert_close(network.convolution.bias.grad, 2 * once[2])  # type: ignore[operator]


def test_weights_and_buffers_are_shared(network: Small) -> None:
    twin = sharing_weights(network)
    with torch.no_grad():
        network.convolution.weight.zero_()
        network.scale.fill_(7)
    assert not twin.convolution.weight.any()
    assert twin.scale == 7


def test_each_pass_has_its_share_of_the_threads(network: Small) -> None:
    assert both(network).run(lambda *_: torch.get_num_threads()) == [1, 1]
    assert torch.get_num_threads() == 2
    # What the products of matrices take is one number for all threads.
    found = re.findall(r"max_threads\(\) : (\d+)", torch.__config__.parallel_info())
    assert set(found) == {"2"}


def test_an_error_comes_when_all_have_ended(network: Small) -> None:
    ended = []

    def work(_: nn.Module, number: int) -> None:
        if number == 0:
            raise MemoryError
        time.sleep(0.1)
        ended.append(number)

    with pytest.raises(MemoryError):
        both(network).run(work)
    assert ended == [1]


def test_one_pass_where_there_is_nothing_to_split(network: Small) -> None:
    assert side_by_side(network, 31) is None
    with computing_threads(1):
        assert side_by_side(network, 32) is None
    assert side_by_side(nn.Conv2d(1, 1, 1), 32) is None


@pytest.mark.parametrize(("threads", "passes", "each"), [(8, 4, 2), (6, 3, 2), (4, 4, 1), (3, 3, 1), (10, 2, 5), (7, 1, 7)])
def test_no_thread_is_left_without_work(threads: int, passes: int, each: int, network: Small) -> None:
    with computing_threads(threads):
        found = side_by_side(network, 1000)
    assert (1, threads) == (passes, each) if found is None else (len(found.networks), found.threads) == (passes, each)


def test_a_pass_that_fails_leaves_no_gradient_behind(network: Small) -> None:
    passes = both(network)

    def work(twin: nn.Module, number: int) -> None:
        if number == 0:
            raise MemoryError
        twin(images()).sum().backward()

    with pytest.raises(MemoryError):
        passes.run(work)
    assert all(parameter.grad is None for parameter in passes.networks[1].parameters())
