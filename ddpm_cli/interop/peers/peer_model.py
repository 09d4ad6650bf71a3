"""Hold a model of another program in the words of ours, and say what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ddpm_cli.errors import RequestError
from ddpm_cli.interop.peers.flags import OPTION

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm_cli.config.schema.config import Config

Weights = Mapping[str, "Tensor"]


@dataclass(frozen=True)
class PeerModel:
    """Hold what a file of another program says.

    Attributes:
        files: The file that holds its weights.
        settings: Dotted keys of our config, and their values.
        image_shape: Channels, height and width of its images.
        weights: By our names.
        differences: Sentences on what was taken for granted, or is otherwise here.
    """

    files: tuple[Path, ...]
    settings: Mapping[str, Any]
    image_shape: tuple[int, int, int]
    weights: Weights
    differences: tuple[str, ...] = ()


def peer_weights(peer: PeerModel, config: Config) -> dict[str, Tensor]:
    """Give the weights of a model, float32, after they were found to be those of the config's network.

    Raises:
        CheckpointError: If they are not.
    """
    from ddpm_cli.sampling.generate import load_network

    return load_network(config, peer.image_shape, peer.weights, peer.files[0]).state_dict()


def inexpressible(program: str, reasons: Iterable[str]) -> RequestError:
    """Say why ours cannot be that network."""
    return RequestError(f"ddpm has no such network of {program}: {'; '.join(reasons)}.", "Another model can be imported.")


def missing(program: str, needs: Mapping[str, str]) -> RequestError:
    """Say which settings a file leaves open: what each is, and the flag of the other program that says it."""
    told = "; ".join(f"{what} (--{flag.split()[0]})" for flag, what in needs.items())
    flags = " ".join(f"--{flag}" for flag in needs)
    return RequestError(f"The file holds weights of {program}, which leave open {told}.", f'Add it: {OPTION} "{flags}"')


def contradiction(flag: str, said: object, found: object) -> RequestError:
    """Say that a flag and the file do not fit together."""
    return RequestError(
        f"{OPTION} says --{flag} {said}, but the weights of the file are those of {found}.", "Give the flags of this model."
    )


def image_size(asked: tuple[int, int] | None, flagged: int | None) -> tuple[int, int] | None:
    """Give height and width by --size or the other program's flag; None if neither says it.

    Raises:
        RequestError: If they differ.
    """
    if asked is not None and flagged is not None and asked != (flagged, flagged):
        raise contradiction("image_size", flagged, f"{asked[0]}x{asked[1]} (--size)")
    return asked or (None if flagged is None else (flagged, flagged))


def sines_first(weight: Tensor, *, interleaved: bool) -> Tensor:
    """Bring the columns of the first linear layer of a time embedding into our order, sines and then cosines.

    Args:
        weight: [out, channels], channels even or odd (then the last one reads a zero).
        interleaved: Whether it has sine and cosine of each frequency side by side; else it has all cosines first.
    """
    half = weight.shape[1] // 2
    if interleaved:
        return torch.cat([weight[:, 0::2], weight[:, 1::2]], dim=1)
    return torch.cat([weight[:, half : 2 * half], weight[:, :half], weight[:, 2 * half :]], dim=1)
