"""Give the convolutions that read and write an image other channels."""

from __future__ import annotations

from torch import Tensor

from ddpm_cli.models.base import ImageAxis


def with_channels(weight: Tensor, before: ImageAxis, wanted: ImageAxis, own: Tensor) -> Tensor:
    """Bring a weight that reads or writes an image to another number of channels.

    With C channels before, C' now, c one of them and k a pixel of the block that a stem makes channels of:

        reads:   w'[o, c', k] = (1 / C' + a[o, c']) sum_c w[o, c, k]    where sum_c' a[o, c'] = 0, sum_c' a[o, c']^2 = 1 - 1 / C'
        writes:  w'[c', k, i] = sum_c w[c, k, i] / C

    A picture whose channels are all the same, as a grey one in colour is, gets the response of before, from 1 to 3 as from 3 to 1:
    sum_c' w'[o, c', k] x[k] = sum_c w[o, c, k] x[k]. Each feature reads colours through its old filter in a random mixture a of its
    own: without it all channels would have the same weights and the same gradients, and nothing would tell them apart. With its
    length, noise that is independent in each channel gets as strong a response as in a grey picture, sum_c' w'^2 = (sum_c w)^2.
    Each channel that is written is at first the mean of those before; from grey to colour it is the grey one. Where C = C' nothing
    changes.

    Args:
        weight: Of a convolution or its bias.
        before: How it runs over an image.
        wanted: How the result does, with as many pixels.
        own: Random weights of the shape of the result, from which the mixtures are made. The part for the variance keeps them where
            `weight` has none.
    Returns:
        A tensor shaped like `own`.
    """
    moved, random = _apart(weight, before), _apart(own, wanted)
    if before.channels != wanted.channels:
        mean = moved.mean(1, keepdim=True)
        shares = before.channels * _mixtures(random) if before.axis == 1 else 1.0
        moved = (mean * shares).expand(-1, wanted.channels, *moved.shape[2:])
    result = random.clone()
    kept = min(before.parts, wanted.parts)
    result[:kept] = moved[:kept]
    return result.flatten(0, 2).movedim(0, wanted.axis).contiguous()


def _mixtures(random: Tensor) -> Tensor:
    """1 / C' + a for each feature: from random weights [1, C', pixels, features, ...] to [1, C', 1, features, 1, 1]."""
    channels = random.shape[1]
    drawn = random[:, :, :1, :, :1, :1]
    drawn = drawn - drawn.mean(1, keepdim=True)
    length = drawn.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)
    result: Tensor = 1 / channels + drawn / length * (1 - 1 / channels) ** 0.5
    return result


def _apart(weight: Tensor, axis: ImageAxis) -> Tensor:
    """The axis over the image in front, as [parts, channels, pixels, ...]."""
    first = weight.movedim(axis.axis, 0)
    return first.reshape(axis.parts, axis.channels, axis.pixels, *first.shape[1:])
