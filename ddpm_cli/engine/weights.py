"""Weights into networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ddpm_cli.errors import CheckpointError


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], origin: Path) -> None:
    """Put weights into a network of the same architecture.

    Raises:
        CheckpointError: If names or shapes differ, naming the first that does.
    """
    expected = network.state_dict()
    for name in expected.keys() | weights.keys():
        ours, theirs = expected.get(name), weights.get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            found = (
                "missing"
                if theirs is None
                else "not part of it"
                if ours is None
                else f"{tuple(theirs.shape)}, not {tuple(ours.shape)}"
            )
            raise CheckpointError(
                f"{origin} holds another architecture than its config describes: {name} is {found}.",
                "Use the config that the checkpoint was trained with.",
            )
    network.load_state_dict(dict(weights))
