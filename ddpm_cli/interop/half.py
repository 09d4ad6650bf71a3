"""Keep weights in half precision: half the bytes in a file, while everything is computed in float32."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ddpm_cli.errors import RequestError
from ddpm_cli.interop.same_noise import prediction_difference

if TYPE_CHECKING:
    from ddpm_cli.sampling.trained_model import TrainedModel


class HalfWeights(nn.Module):
    """Keep a network's weights as float16, and compute as the network itself does with the rounded ones.

    Args:
        network: The network, of which a rounded copy of the weights is kept.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._names = [name for name, _ in network.named_parameters()]
        self._weights = nn.ParameterList(
            nn.Parameter(weight.detach().half(), requires_grad=False) for weight in network.parameters()
        )
        # Out of sight of nn.Module, which would count the weights of full precision as its own.
        self._network = (network,)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Compute what the network gives with the rounded weights."""
        weights = {name: weight.float() for name, weight in zip(self._names, self._weights, strict=True)}
        result: Tensor = functional_call(self._network[0], weights, (x, t) if labels is None else (x, t, labels))
        return result


def rounded(trained: TrainedModel) -> tuple[TrainedModel, float]:
    """Round a model to weights that float16 can hold, still float32, and tell by how much its predictions differ at most.

    Raises:
        RequestError: If a weight is too large for float16.
    """
    import copy

    network = copy.deepcopy(trained.network)
    for name, weight in network.named_parameters():
        weight.data = weight.data.half().float()
        if not bool(torch.isfinite(weight).all()):
            raise RequestError(
                f"The weights {name} exceed 65,504, the largest number of half precision.", "Export it in full precision."
            )
    return replace(trained, network=network), prediction_difference(trained, network)
