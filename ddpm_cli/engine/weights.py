"""Weights into networks, and an optimizer's moments out of it and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ddpm_cli.engine.sharding import spread_like
from ddpm_cli.errors import CheckpointError
from ddpm_cli.files import printable

ADAM = {"step", "exp_avg", "exp_avg_sq"}
_REMEDY = "Use another checkpoint, or copy this one again from where it is whole."


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], origin: Path) -> None:
    """Put weights into a network of the same architecture.

    Raises:
        CheckpointError: See `check_weights`.
    """
    check_weights(network, weights, origin)
    network.load_state_dict({name: spread_like(weights[name], own) for name, own in network.state_dict().items()})


def check_weights(network: nn.Module, weights: Mapping[str, Tensor], origin: Path) -> None:
    """Refuse weights of another architecture; the network may be without storage (torch's device "meta").

    Raises:
        CheckpointError: If names, shapes or kinds of numbers differ, naming the first that does.
    """
    expected = network.state_dict()
    for name in expected.keys() | weights.keys():
        ours, theirs = expected.get(name), weights.get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape or theirs.is_complex():
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


def flatten_optimizer(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """An optimizer's moments as flat tensors, `<number of the parameter>.<name>`; its hyperparameters are in the config."""
    return {f"{number}.{name}": value for number, entry in state["state"].items() for name, value in entry.items()}


def unflatten_optimizer(tensors: Mapping[str, Tensor], fresh: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten_optimizer`, with the hyperparameters of a fresh optimizer's state.

    Raises:
        CheckpointError: If they are not Adam's moments, of each parameter or of none.
    """
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        if not number.isdecimal() or len(number) > 9 or name not in ADAM:
            raise CheckpointError(f"The checkpoint's optimizer has {printable(key)!r}, which Adam has not.", _REMEDY)
        entries.setdefault(int(number), {})[name] = value
    parameters = {number for group in fresh["param_groups"] for number in group["params"]}
    if entries and (entries.keys() != parameters or any(entry.keys() != ADAM for entry in entries.values())):
        raise CheckpointError("The checkpoint's optimizer is that of another network.", _REMEDY)
    return {"state": entries, "param_groups": fresh["param_groups"]}


def spread_moments(state: dict[str, Any], groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """An optimizer's state in which the moments of each parameter are spread over the processes as it is itself.

    Args:
        state: What `unflatten_optimizer` gave; changed in place.
        groups: The optimizer's own groups of parameters.
    """
    parameters = [parameter for group in groups for parameter in group["params"]]
    for number, entry in state["state"].items():
        for name, value in entry.items():
            entry[name] = value if name == "step" else spread_like(value, parameters[number])
    return state
