from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ddpm_cli.models.cost import forward_flops, parameter_count

if TYPE_CHECKING:
    from conftest import MakeUnet


class OneConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        result: Tensor = self.conv(x)
        return result


def test_one_convolution_counted_by_hand() -> None:
    network = OneConvolution()
    assert parameter_count(network) == 3 * 5 * 3 * 3 + 5
    assert forward_flops(network, (3, 8, 10)) == 2 * (3 * 3 * 3) * 5 * (8 * 10)


def test_frozen_parameters_are_not_counted() -> None:
    network = OneConvolution()
    network.conv.bias.requires_grad_(False)  # type: ignore[union-attr]  # there is a bias
    assert parameter_count(network) == 3 * 5 * 3 * 3


def test_attention_counts(make_unet: MakeUnet) -> None:
    without = make_unet(middle_attention=False)
    with_attention = make_unet(middle_attention=True)
    pixels, channels = 4 * 4, 16
    projections = 4 * 2 * pixels * channels**2
    products = 2 * 2 * pixels**2 * channels
    extra = forward_flops(with_attention, (1, 8, 8)) - forward_flops(without, (1, 8, 8))
    assert extra == projections + products


def test_counting_changes_nothing(make_unet: MakeUnet) -> None:
    network = make_unet()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    forward_flops(network, (1, 8, 8))
    after = network.state_dict()
    assert all(tensor.device.type == "cpu" and torch.equal(tensor, before[name]) for name, tensor in after.items())
