"""Say what a network must be, and what its parts must be to be recomputed and sharded.

A network of another kind is one class below `Denoiser`, whose larger parts are below `Block`; nothing else asks for its class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from torch import Tensor, is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint


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
