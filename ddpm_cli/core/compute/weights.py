"""Load weights into networks, and an optimizer's moments out of it and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ddpm_cli.core.compute.muon import MOMENTS
from ddpm_cli.core.compute.sharding import spread_like
from ddpm_cli.core.io.files import printable
from ddpm_cli.errors import CheckpointError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""In which weights and moments may be stored; torch knows others, with which it does not calculate."""

ADAM = ("step", "exp_avg", "exp_avg_sq")
_NOT_NEGATIVE = (".step", ".exp_avg_sq")

_REMEDY = "Use another checkpoint, or copy this one again from where it is whole."


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], origin: Path) -> None:
    """Put weights into a network of the same architecture.

    Raises:
        CheckpointError: See `check_weights`; or if one is not a finite number, of which no image and no training could come.
    """
    check_weights(network, weights, origin)
    for name, ours in network.state_dict().items():
        if not _is_finite(weights[name].to(ours.dtype)):
            raise CheckpointError(
                f"{origin} holds weights that are not finite numbers ({name}): its training has diverged, or someone changed it.",
                "Use an earlier checkpoint; to resume from one, remove the later ones.",
            )
    network.load_state_dict({name: spread_like(weights[name], own) for name, own in network.state_dict().items()})


def check_weights(network: nn.Module, weights: Mapping[str, Tensor], origin: Path) -> None:
    """Refuse weights of another architecture; the network may be without storage (torch's device "meta").

    Raises:
        CheckpointError: If names, shapes or kinds of numbers differ, naming the first that does.
    """
    expected = network.state_dict()
    for name in dict.fromkeys([*expected, *weights]):
        ours, theirs = expected.get(name), weights.get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape or not _same_kind(ours, theirs):
            found = (
                "missing"
                if theirs is None
                else "not part of it"
                if ours is None
                else f"{_described(theirs)}, not {_described(ours)}"
            )
            raise CheckpointError(
                f"{origin} holds another architecture than its config describes: {name} is {found}.",
                "Use the config that the checkpoint was trained with.",
            )


def flatten_optimizer(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Flatten an optimizer's moments to tensors `<number of the parameter>.<name>`; its hyperparameters are in the config."""
    return {f"{number}.{name}": value for number, entry in state["state"].items() for name, value in entry.items()}


def unflatten_optimizer(tensors: Mapping[str, Tensor], optimizer: Optimizer) -> dict[str, Any]:
    """Undo `flatten_optimizer`, with the hyperparameters of a fresh optimizer.

    Raises:
        CheckpointError: If they are not the optimizer's moments, of each parameter or of none; torch itself would take any, and
            fail, or ruin the weights, at the next step.
    """
    groups = optimizer.param_groups
    moments = [group.get(MOMENTS, ADAM) for group in groups for _ in group["params"]]
    known = {name for names in moments for name in names}
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        if not number.isdecimal() or len(number) > 9 or name not in known:
            raise CheckpointError(
                f"The checkpoint's optimizer has {printable(key)!r}, which {type(optimizer).__name__} has not.", _REMEDY
            )
        # A copy: what was read is a view of the file, and training must not end with it.
        entries.setdefault(int(number), {})[name] = value.clone()
    parameters = dict(enumerate(parameter for group in groups for parameter in group["params"]))
    if entries and (entries.keys() != parameters.keys() or any(entries[at].keys() != {*moments[at]} for at in entries)):
        raise CheckpointError("The checkpoint's optimizer is that of another network.", _REMEDY)
    for place, entry in entries.items():
        for name, value in entry.items():
            _check_moment(f"{place}.{name}", value, () if name == "step" else tuple(parameters[place].shape))
    return {"state": entries, "param_groups": optimizer.state_dict()["param_groups"]}


def moment_bytes(optimizer: Optimizer) -> int:
    """Count the bytes of all moments of an optimizer, those that the first step makes too."""
    return sum(
        parameter.nbytes * sum(name != "step" for name in group.get(MOMENTS, ADAM))
        for group in optimizer.param_groups
        for parameter in group["params"]
    )


def spread_moments(state: dict[str, Any], groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Spread the moments of each parameter over the processes, and lay them in memory, as the parameter is.

    Fused kernels walk through all of them in step: where one lies in another order (channels last) they mix up its numbers.

    Args:
        state: What `unflatten_optimizer` gave; changed in place.
        groups: The optimizer's own groups of parameters.
    """
    parameters = [parameter for group in groups for parameter in group["params"]]
    for number, entry in state["state"].items():
        for name, value in entry.items():
            if name != "step":
                entry[name] = torch.empty_like(parameters[number]).copy_(spread_like(value, parameters[number]))
    return state


def _check_moment(key: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if value.shape != shape or value.dtype not in FLOATS:
        raise CheckpointError(f"The checkpoint's optimizer has {_described(value)} as {key}, not floats {shape}.", _REMEDY)
    if not _is_finite(value) or (key.endswith(_NOT_NEGATIVE) and bool((value < 0).any())):
        raise CheckpointError(f"The checkpoint's optimizer has numbers in {key} that no training leaves there.", _REMEDY)


def _same_kind(ours: Tensor, theirs: Tensor) -> bool:
    return theirs.dtype in FLOATS if ours.is_floating_point() else theirs.dtype == ours.dtype


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
