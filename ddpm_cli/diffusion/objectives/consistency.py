"""Train a consistency model: from any level of noise, the network tells the image where the trajectory through it ends.

Such a map f is the same all along a trajectory of the probability-flow ODE, and at no noise it is the image itself (Song et al.
2023, Consistency Models, Sec. 3). Training asks f at level t to say what f says at a level r with less noise, of the same image and
the same noise. Nothing flows back through what it says at r (Song & Dhariwal 2023, Improved Techniques, Sec. 3.2).

The x0_hat of a network is such a map where it gives x_t back at no noise: that of eps, v, EDM and flow does, that of x0 does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ddpm_cli.diffusion.denoise import Network
from ddpm_cli.diffusion.forward import Levels, at_least_float32, noised
from ddpm_cli.diffusion.levels import Schedule
from ddpm_cli.diffusion.objectives.weightings import Weighting, loss_weight
from ddpm_cli.diffusion.prediction import Prediction, eps_from_x_0, estimated, split_output

PSEUDO_HUBER = 0.00054
"""Of Song & Dhariwal 2023, Sec. 3.3: c = 0.00054 sqrt(D) for the norm over D numbers, 0.00054 for their root mean square."""
WIDENING = 8.0
"""The k of n(ratio) = 1 + k sigmoid(-b ratio), with b = 1 (Geng et al. 2024, Sec. 3.2)."""


def distance_at(share: float, first: float, last: float) -> float:
    """Shorten the distance of the two levels over training, by the same factor in the same time (Geng et al. 2024, Sec. 3.2).

    distance = first**(1 - share) * last**share

    The paper divides it by q now and then; this goes through the same values without leaps.

    Args:
        share: Of the budget that is used, in [0, 1].
        first: Where it begins, in (0, 1]; with 1 all of the noise goes, and training begins as that of a diffusion model.
        last: Where it ends, in (0, 1].
    """
    return math.exp((1.0 - share) * math.log(first) + share * math.log(last))


def relative_distance(ratio: Tensor, distance: float) -> Tensor:
    """Tell what part of its noise each image loses between the two levels (Geng et al. 2024, Sec. 3.2).

    (ratio_t - ratio_r) / ratio_t = min(1, distance * n(ratio_t))    n(ratio) = 1 + 8 sigmoid(-ratio)

    n widens the distance where there is little noise.

    Args:
        ratio: sigma / alpha at t, any shape; the paper's t.
        distance: In (0, 1].
    Returns:
        In (0, 1], shaped like ratio; 1 where r is the image itself.
    """
    return (distance * (1.0 + WIDENING * torch.sigmoid(-ratio))).clamp(max=1.0)


def consistency_losses(
    network: Network,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    schedule: Schedule,
    prediction: Prediction,
    weighting: Weighting = "simple",
    distance: float = 1.0,
    pseudo_huber: float | None = PSEUDO_HUBER,
) -> Tensor:
    """Compare what the network makes of two levels of noise (Song et al. 2023, Eq. 10; Song & Dhariwal 2023, Eq. 7).

    error = f(x_t, t) - f(x_r, r), the second as a constant; f is x0_hat, and f(x_r, r) is x_0 where r is the image itself
    loss = w / s * (sqrt(mean of error**2 + c**2) - c)    or without c    w**2 / s * mean of error**2

    with s = (ratio_t - ratio_r) / ratio_t, see relative_distance, and w**2 what `p_losses` multiplies the error of the image by. So
    without c and at the largest distance, s = 1, it is p_losses. For v and EDM w is about alpha / sigma at little noise, and w / s
    the weight 1 / (ratio_t - ratio_r) of both papers.

    Autocast reaches the network alone, as in p_losses. Dropout leaves out the same in both evaluations.

    Args:
        network: Predicts from x_t [B, C, H, W] and t [B]. The second half of twice the channels is not trained here.
        x_0: Images in [-1, 1], [B, C, H, W].
        t: Steps in [0, T), [B], as in p_losses. r lies between the steps of the table.
        eps: Standard normal noise, shaped like x_0; both levels get it.
        schedule: The noise schedule.
        prediction: What the network predicts.
        weighting: How much each noise level counts.
        distance: Of the two levels, in (0, 1], see distance_at.
        pseudo_huber: The c of the pseudo-Huber metric, per number, above 0; None for the squared error.
    Returns:
        The loss of each image, [B].
    Raises:
        ShapeError: If eps or the prediction is not shaped like x_0.
    """
    x_0 = at_least_float32(x_0)
    at = Levels.of_steps(schedule, t, x_0)
    ratio = finite_ratio(at, schedule)
    share = relative_distance(ratio, distance)
    goal = _goal(network, x_0, eps, ratio * (1.0 - share), schedule, prediction) if distance < 1.0 else x_0
    squared = (_f(network, noised(x_0, eps, at), at, prediction) - goal).square().flatten(1).mean(1)
    weight = loss_weight(weighting, prediction, at) * prediction.error_factor(at).flatten()
    if pseudo_huber is None:
        return weight / share * squared
    return weight.sqrt() / share * ((squared + pseudo_huber**2).sqrt() - pseudo_huber)


def finite_ratio(at: Levels, schedule: Schedule) -> Tensor:
    """Give sigma / alpha of each image, [B]; where no signal is left, the largest that the schedule has where some is."""
    most = float(schedule.sigmas[np.isfinite(schedule.sigmas)].max())
    return torch.exp(-at.half_logsnr.flatten()).clamp(max=most)


def _f(network: Network, x: Tensor, at: Levels, prediction: Prediction) -> Tensor:
    output, _ = split_output(network(*prediction.network_input(x, at)), x)
    return estimated(prediction, output, x, at).x0_hat


@torch.no_grad()
def _goal(network: Network, x_0: Tensor, eps: Tensor, ratio: Tensor, schedule: Schedule, prediction: Prediction) -> Tensor:
    """What the network says at the levels of these ratios, [B]; the images themselves below the first step of the schedule."""
    at = Levels.of_ratios(schedule, ratio, x_0)
    with _unmoved_randomness(x_0.device):
        said = _f(network, noised(x_0, eps, at), at, prediction)
    is_image = (ratio < float(schedule.sigmas[0])).view(-1, *[1] * (x_0.ndim - 1))
    return torch.where(is_image, x_0, said)


@contextmanager
def _unmoved_randomness(device: torch.device) -> Iterator[None]:
    """Put the random state of a device back, so that dropout leaves out the same once more."""
    of_device = torch if device.type == "cpu" else torch.get_device_module(device)
    which = (device,) if device.type == "cuda" else ()  # else that of the first one
    before = of_device.get_rng_state(*which)
    yield
    of_device.set_rng_state(before, *which)


End = Callable[[Tensor, Tensor, Levels], Tensor]
"""end(x_0, x_t, at), where the trajectory through x_t is to end, shaped like x_0."""


def moved_ends(end: End, x_0: Tensor, t: Tensor, eps: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Move images and noise so that the trajectories between them end elsewhere.

    x_0' = end(x_0, x_t, t)    eps' = (x_t - alpha x_0') / sigma

    x_t stays what it is, and x_r of the new pair lies where a step of Euler's leads that takes x_0' for the image. Where x_0' is a
    teacher's x0_hat, that is the step of consistency distillation (Song et al. 2023, Alg. 2), and with a guided one that of Luo et
    al. 2023 (Latent Consistency Models, Eq. 14). Where x_0' is x_0 plus what guidance adds to the teacher's x0_hat, its mean given
    x_t is what the guided teacher says, and without guidance nothing moves.

    Args:
        end: Tells where trajectories are to end.
        x_0: Images in [-1, 1], [B, C, H, W].
        t: Steps in [0, T), [B].
        eps: Standard normal noise, shaped like x_0.
        schedule: The noise schedule.
    Returns:
        x_0' and eps', shaped like x_0.
    """
    x_0 = at_least_float32(x_0)
    at = Levels.of_steps(schedule, t, x_0)
    x_t = noised(x_0, eps, at)
    moved = end(x_0, x_t, at)
    return moved, eps_from_x_0(x_t, moved, at)
