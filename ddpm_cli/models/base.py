"""Say what a network must be, and what its parts must be to be recomputed and sharded.

A network of another kind is one class below `Denoiser`, whose larger parts are below `Block`; nothing else asks for its class.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint

from ddpm_cli.errors import ConfigError
from ddpm_cli.models.cost import PassCost, traced_cost

LISTED_BLOCKS = 40
"""In a message: the groups come first."""


class ImageAxis(NamedTuple):
    """Say how an axis of a parameter runs over an image: its parts, in each the channels, in each the pixels of a block.

    Attributes:
        axis: 0 where the parameter writes the image, 1 where it reads it.
        channels: Of the image.
        pixels: Of the block that becomes channels in front of the network, stem * stem; 1 without a stem.
        parts: 2 where the network predicts its variance too, else 1.
    """

    axis: int
    channels: int
    pixels: int = 1
    parts: int = 1


class Denoiser(nn.Module, ABC):
    """Predict from noisy images of one size, their noise levels and perhaps their classes.

    Args:
        in_channels: Channels of x.
        image_size: (H, W) of x.
        num_classes: Classes of the images; label `num_classes` is the null label, an image of any class. None: no labels.

    Attributes:
        stateless: Whether a pass draws nothing at random and changes nothing in the network, in training too, so that several may
            be computed at once.
    """

    stateless = False

    def __init__(self, *, in_channels: int, image_size: tuple[int, int], num_classes: int | None) -> None:
        super().__init__()
        self.in_channels, self.image_size, self.num_classes = in_channels, image_size, num_classes

    @abstractmethod
    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predict.

        Args:
            x: Noisy images x_t, [B, C, H, W].
            t: Noise levels, [B], int or float.
            labels: Classes in [0, num_classes], int64, [B]; None stands for the null label.
        Returns:
            Prediction, [B, C, H, W], or [B, 2 C, H, W] with a learned variance.
        """

    def take_augmentation(self, size: int) -> None:
        """Let `forward` take `augmentation` as well, how images were augmented, float32 [B, size]; None stands for 0, not at all.

        Where it is 0 the prediction must be what it is without it, so that a network may be exported as if it took none.

        Raises:
            ConfigError: If the network cannot, which is so unless a class below says how.
        """
        raise ConfigError("data.augment needs a network that can be told of it, and this one cannot.", "Set data.augment=0.")

    def image_axes(self) -> Mapping[str, ImageAxis]:
        """List the parameters with an axis over the channels of an image, which a network for other channels can start from.

        None, unless a class below says so: then these weights are new where the channels differ.
        """
        return {}

    def class_tables(self) -> Sequence[str]:
        """List the parameters with a row for each class and a last one for the null label; none if it takes no labels."""
        return ()

    def pass_cost(self) -> PassCost:
        """Tell the cost of a pass: from a pass on the meta device, unless a class below knows it from its sizes."""
        return traced_cost(self, (self.in_channels, *self.image_size))


class Block(nn.Module):
    """Compute a part of a network whose inside training need not keep, and which is whole on a process only while it computes.

    Attributes:
        compute: Method of the class below that maps its inputs to the output; all that the gradient depends on is a parameter or
            among the inputs.
        recompute: Whether training keeps nothing of the inside and computes it again in the backward pass (Chen et al. 2016,
            Sublinear memory cost), with the same dropout: less memory for a third more time.
    """

    recompute = False
    compute: Callable[..., Tensor]

    def forward(self, *inputs: Tensor | None) -> Tensor:
        """Compute, and keep of it what `recompute` says."""
        if self.recompute and self.training and is_grad_enabled():
            result: Tensor = checkpoint(self.compute, *inputs, use_reentrant=False)
            return result
        return self.compute(*inputs)


def blocks(network: nn.Module) -> Iterator[Block]:
    """List the blocks of a network."""
    return (module for module in network.modules() if isinstance(module, Block))


def recompute_blocks(network: nn.Module, recompute: bool) -> None:
    """Say whether training computes the inside of each block again instead of keeping it.

    It changes no number, and nothing in evaluation mode or without gradients; it is no part of the weights.
    """
    for block in blocks(network):
        block.recompute = recompute


def block_names(network: nn.Module) -> list[str]:
    """List what can be frozen, in the order in which it is registered: groups of blocks such as down.0, and single blocks."""
    single = [name for name, module in network.named_modules() if isinstance(module, Block)]
    groups = [match[0] for name in single if (match := re.match(r"\w+(\.\d+)?", name))]
    return list(dict.fromkeys([*groups, *single]))


def freeze(network: nn.Module, last: str) -> list[str]:
    """Keep the parameters up to a block, its own included, as they are: they get no gradient.

    What comes before it is what was registered before it, the embedding of t and what reads the image among them. Tables with a row
    for each class stay free: their classes may be new.

    Args:
        network: A network with blocks.
        last: One of `block_names`.
    Returns:
        Names of the frozen parameters.
    Raises:
        ConfigError: If there is no such block, or if nothing would be left to train.
    """
    known = block_names(network)
    if last not in known:
        raise ConfigError(f"There is no block {last!r} to freeze.", f"There are: {', '.join(known[:LISTED_BLOCKS])}.")
    parameters = dict(network.named_parameters())
    names = list(parameters)
    end = max(place for place, name in enumerate(names) if name.startswith(f"{last}."))
    tables = network.class_tables() if isinstance(network, Denoiser) else ()
    frozen = [name for name in names[: end + 1] if name not in tables]
    if len(frozen) == len(names):
        raise ConfigError(f"Freezing all up to {last!r} leaves nothing to train.", f"Choose an earlier block: {known[0]}.")
    for name in frozen:
        parameters[name].requires_grad_(False)
    return frozen
