"""Where weights and what belongs to them lie in memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ddpm_cli.core.compute.memory_format import place_network
from ddpm_cli.core.compute.weights import flatten_optimizer, spread_moments, unflatten_optimizer


def test_convolutions_have_their_channels_last() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Linear(4, 4))
    assert place_network(network, torch.device("cpu")) is network
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("fused", [False, True])
def test_moments_out_of_a_checkpoint_fit_the_weights(fused: bool) -> None:
    """A checkpoint holds them in the order of their indices; the fused kernel of Adam goes by the order of memory."""
    network = place_network(nn.Conv2d(3, 5, 3), torch.device("cpu"))
    gradients = [torch.randn_like(parameter) for parameter in network.parameters()]

    def step(optimizer: torch.optim.Adam) -> None:
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()

    optimizer = torch.optim.Adam(network.parameters(), fused=fused)
    step(optimizer)
    stored = {
        name: value.clone(memory_format=torch.contiguous_format)
        for name, value in flatten_optimizer(optimizer.state_dict()).items()
    }
    before = [parameter.detach().clone() for parameter in network.parameters()]
    step(optimizer)
    expected = [parameter.detach().clone() for parameter in network.parameters()]

    for parameter, old in zip(network.parameters(), before, strict=True):
        parameter.data.copy_(old)
    restored = torch.optim.Adam(network.parameters(), fused=fused)
    restored.load_state_dict(spread_moments(unflatten_optimizer(stored, restored), restored.param_groups))
    step(restored)
    assert all(torch.equal(found, wanted) for found, wanted in zip(network.parameters(), expected, strict=True))
