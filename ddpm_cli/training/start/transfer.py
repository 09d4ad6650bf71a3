"""Find which weights of one network another can take: by name and shape, and what reads, writes or names the pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.models.channels import with_channels

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm_cli.models.base import Denoiser, ImageAxis

Fit = Callable[["Tensor", "Tensor"], "Tensor"]
"""Makes the weight of the new network from that of the old one and from its own random one."""
NULL = "the null label"


@dataclass
class Transfer:
    """Hold which weights a network takes from another, and how.

    Attributes:
        fits: Name to how the weight is made; a name that is not here keeps its random weight.
        adapted: Name to how it is brought to other channels or classes.
        new: Name, or name and rows, to why the weights there are new.
        left: Name of a weight of the other network, or name and rows, to why it is not taken.
        shares: Name to the part of the weight that is taken, where it is not all of it.
    """

    fits: dict[str, Fit] = field(default_factory=dict)
    adapted: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)

    @property
    def taken(self) -> tuple[str, ...]:
        """List the names of the weights that are taken as they are."""
        return tuple(name for name in self.fits if name not in self.adapted)

    def weights(self, source: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make all weights of the new network.

        Args:
            source: Those of the other network.
            own: Its random ones.
        """
        return {name: self.fits[name](source[name].to(value), value) if name in self.fits else value for name, value in own.items()}


def plan_transfer(
    before: Denoiser, after: Denoiser, classes_before: Sequence[str] = (), classes_after: Sequence[str] = ()
) -> Transfer:
    """Find which weights of a network another one can take, by name and shape; both may be without storage (torch's "meta").

    Args:
        before: The network that was trained.
        after: The new one.
        classes_before: Name of each class of the first, if it takes labels.
        classes_after: Of the second.
    """
    transfer = Transfer()
    old, new = before.state_dict(), after.state_dict()
    axes_before, axes_after = before.image_axes(), after.image_axes()
    tables = {*before.class_tables()} & {*after.class_tables()}
    for name, wanted in new.items():
        found = old.get(name)
        axes = (axes_before.get(name), axes_after.get(name))
        if found is None:
            transfer.new[name] = "the source has none of that name"
        elif name in tables and found.shape[1:] == wanted.shape[1:]:
            _match_classes(transfer, name, classes_before, classes_after)
        elif axes[0] and axes[1] and axes[0] != axes[1]:
            _match_channels(transfer, name, found, wanted, axes[0], axes[1])
        elif found.shape == wanted.shape:
            transfer.fits[name] = _as_it_is
        else:
            _name_misfit(transfer, name, found, wanted)
    transfer.left |= {name: "the new network has none of that name" for name in old if name not in new}
    return transfer


def _as_it_is(found: Tensor, own: Tensor) -> Tensor:
    return found


def _name_misfit(transfer: Transfer, name: str, found: Tensor, wanted: Tensor) -> None:
    transfer.new[name] = f"{_shape(wanted)} here, {_shape(found)} in the source"
    transfer.left[name] = transfer.new[name]


def _match_channels(transfer: Transfer, name: str, found: Tensor, wanted: Tensor, before: ImageAxis, after: ImageAxis) -> None:
    """Bring what reads or writes the image to other channels, if all else of it is the same."""
    if before.pixels != after.pixels:
        transfer.new[name] = transfer.left[name] = f"a stem makes channels of {after.pixels} pixels here, of {before.pixels} there"
        return
    others = [[size for place, size in enumerate(weight.shape) if place != before.axis] for weight in (found, wanted)]
    if others[0] != others[1] or before.axis != after.axis:
        _name_misfit(transfer, name, found, wanted)
        return
    transfer.fits[name] = lambda found, own: with_channels(found, before, after, own)
    changes = [f"{counted(before.channels, 'channel')} to {after.channels}"] if before.channels != after.channels else []
    if before.parts != after.parts:
        changes.append("without the variance" if after.parts < before.parts else "the variance is new")
        (transfer.left if after.parts < before.parts else transfer.new)[f"{name} (variance)"] = "only one of them learns a variance"
        transfer.shares[name] = min(before.parts, after.parts) / after.parts
    transfer.adapted[name] = ", ".join(changes)


def _match_classes(transfer: Transfer, name: str, before: Sequence[str], after: Sequence[str]) -> None:
    """Take the row of each class that both know, by name, and that of the null label."""
    shared = [label for label in after if label in before]
    rows = [(after.index(label), before.index(label)) for label in shared] + [(len(after), len(before))]

    def fit(found: Tensor, own: Tensor) -> Tensor:
        result = own.clone()
        here, there = (list(places) for places in zip(*rows, strict=True))
        result[here] = found[there]
        return result

    transfer.fits[name] = fit
    if (*before,) == (*after,):
        return
    transfer.shares[name] = len(rows) / (len(after) + 1)
    transfer.adapted[name] = f"{first_few([*shared, NULL])} of {counted(len(before), 'class', 'classes')}"
    for kept, classes, why in (
        (transfer.new, [label for label in after if label not in shared], "the source knows no class of that name"),
        (transfer.left, [label for label in before if label not in shared], "the new data have no class of that name"),
    ):
        kept |= {f"{name} ({label})": why for label in classes}


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
