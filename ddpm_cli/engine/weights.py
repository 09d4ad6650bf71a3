"""Weights into networks, and an optimizer's moments out of it and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


def flatten_optimizer(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """An optimizer's moments as flat tensors, `<number of the parameter>.<name>`; its hyperparameters are in the config."""
    return {f"{number}.{name}": value for number, entry in state["state"].items() for name, value in entry.items()}


def unflatten_optimizer(tensors: Mapping[str, Tensor], fresh: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten_optimizer`, with the hyperparameters of a fresh optimizer's state."""
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        entries.setdefault(int(number), {})[name] = value
    return {"state": entries, "param_groups": fresh["param_groups"]}
