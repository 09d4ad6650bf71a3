"""Choose the noise that training mixes into an image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Coupling = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""coupling(x_0, eps, told), see `transported_noise`: the noise of each image of a whole batch."""


def nearest_noise(x_0: Tensor, candidates: Tensor) -> Tensor:
    """Take for each image the nearest of several draws of noise (Li et al. 2024, Immiscible Diffusion, image by image).

    eps = argmin over k of ||candidates[k] - x_0||^2

    What is to be learned is then less ambiguous where there is much noise, as fewer images share a region of it. Each image chooses
    among its own draws: neither the other images of a batch nor the number of processes change what it gets.

    Args:
        x_0: Images, [B, C, H, W].
        candidates: Draws of N(0, I) for each image, [B, K, C, H, W].
    Returns:
        One of them for each image, [B, C, H, W].
    """
    distances = (candidates - x_0[:, None]).flatten(2).square().sum(2)
    nearest = distances.argmin(1)
    return candidates[torch.arange(len(x_0), device=x_0.device), nearest]


def transported_noise(x_0: Tensor, eps: Tensor, told: Tensor | None = None) -> Tensor:
    """Hand a batch's noise to its images by optimal transport (Pooladian et al. 2023; Tong et al. 2023, OT-CFM, Sec. 3.2).

    eps[order], order = argmin over permutations of the sum over i of ||x_0[i] - eps[order[i]]||^2

    What is to be learned is then less ambiguous, and trajectories are straighter. Each draw goes to one image, so that the noise of
    the batch is what was drawn. Only images that the network is told the same of exchange theirs: whatever it is told, the noise is
    standard normal, as it is when samples are drawn. Of a batch that is spread over processes or passes all images take part, and
    each process finds the same order.

    Args:
        x_0: Images, [B, C, H, W].
        eps: Draws of N(0, I), shaped like x_0.
        told: A number for what the network is told of each image beside its noise level, int64, [B]; None where it is nothing.
    Returns:
        The draws in another order, shaped like x_0.
    """
    # ||x_0||^2 and ||eps||^2 are the same whatever the order, and would only cost digits.
    exact = torch.float32 if x_0.device.type == "mps" else torch.float64
    products = (x_0.flatten(1).to(exact) @ eps.flatten(1).to(exact).T).cpu().numpy()
    groups = np.zeros(len(x_0), np.int64) if told is None else told.cpu().numpy()
    return eps[torch.from_numpy(assigned(products, groups)).to(eps.device)]


def assigned(products: NDArray[np.floating], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find which column each row gets, so that the sum over what they get is the largest; of each group the columns of its rows.

    Args:
        products: [B, B].
        groups: Of each row, and of the column with the same number, [B].
    Returns:
        A permutation, int64, [B].
    """
    from scipy.optimize import linear_sum_assignment

    order = np.arange(len(groups))
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        order[rows] = rows[linear_sum_assignment(products[np.ix_(rows, rows)], maximize=True)[1]]
    return order
