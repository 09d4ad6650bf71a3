"""Give the convolutions that read and write an image other channels."""

from __future__ import annotations

from torch import Tensor

from ddpm_cli.models.base import ImageAxis


def with_channels(weight: Tensor, before: ImageAxis, wanted: ImageAxis, own: Tensor) -> Tensor:
    """Bring a weight that reads or writes an image to another number of channels.

    With C channels before, C' now, c one of them, k a pixel of the block that a stem makes channels of, and r the random weight:

        reads:   w'[o, c', k] = sum_c w[o, c, k] / C' + r[o, c', k] - mean_c' r[o, c', k]
        writes:  w'[c', k, i] = sum_c w[c, k, i] / C

    A picture whose channels are all the same, as a grey one in colour is, gets the response of before, from 1 to 3 as from 3 to 1:
    sum_c' w'[o, c', k] x[k] = sum_c w[o, c, k] x[k], as the random part has no sum over the channels. That part sees how colours
    differ: without it all channels would have the same weights and the same gradients, and nothing would ever tell them apart.
    Each channel that is written is at first the mean of those before; from grey to colour it is the grey one. Where C = C' nothing
    changes.

    Args:
        weight: Of a convolution or its bias.
        before: How it runs over an image.
        wanted: How the result does, with as many pixels.
        own: Random weights of the shape of the result. The part for the variance keeps them where `weight` has none.
    Returns:
        A tensor shaped like `own`.
    """
    moved, random = _apart(weight, before), _apart(own, wanted)
    if before.channels != wanted.channels:
        moved = moved.mean(1, keepdim=True).expand(-1, wanted.channels, *moved.shape[2:])
        if before.axis == 1:
            moved = moved * before.channels / wanted.channels + random - random.mean(1, keepdim=True)
    result = random.clone()
    kept = min(before.parts, wanted.parts)
    result[:kept] = moved[:kept]
    return result.flatten(0, 2).movedim(0, wanted.axis).contiguous()


def _apart(weight: Tensor, axis: ImageAxis) -> Tensor:
    """The axis over the image in front, as [parts, channels, pixels, ...]."""
    first = weight.movedim(axis.axis, 0)
    return first.reshape(axis.parts, axis.channels, axis.pixels, *first.shape[1:])
