"""Measure the loss on images that training never sees."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ddpm_cli.core.compute.seeds import generator
from ddpm_cli.data.batches import normalise
from ddpm_cli.data.scale import USUAL, Scale
from ddpm_cli.diffusion.guidance import with_labels
from ddpm_cli.diffusion.levels import Schedule
from ddpm_cli.diffusion.objectives.losses import Loss
from ddpm_cli.diffusion.objectives.timestep_draws import FlatDraws

Ends = Callable[[Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""ends(x_0, t, eps, labels), see `consistency.moved_ends`."""
SEED = 0  # the same noise in every run, so that runs can be compared
CHUNK = 64
"""Images whose noise is drawn at once, whatever the batch size, which therefore changes nothing."""


@torch.no_grad()
def held_out_losses(
    network: nn.Module,
    images: Tensor,
    schedule: Schedule,
    loss: Loss,
    batch_size: int,
    part: slice,
    labels: Tensor | None = None,
    before_batch: Callable[[], None] = lambda: None,
    ends: Ends | None = None,
    scale: Scale = USUAL,
) -> Tensor:
    """Measure the training loss of each held-out image, with noise and steps that never change.

    Args:
        network: The denoiser, in evaluation mode.
        images: Stored pixels [N, C, H, W].
        schedule: The noise schedule.
        loss: What training minimises; t is uniform here, whatever training draws.
        batch_size: Images per forward pass, at most; CHUNK is never exceeded.
        part: The images that this process takes; every process draws the noise of all.
        labels: Class of each image, int64 [N], for a network that takes them.
        before_batch: Called before each batch; what it raises ends the measurement.
        ends: Moves images and noise as training does, where a teacher leads it elsewhere.
        scale: Which stored values are -1 and 1.

    Returns:
        float32 [N], with 0 for the images of other parts; the mean of the sum over all parts is the held-out loss.
    """
    device = next(network.parameters()).device
    draws = generator(device, SEED, "held-out")
    t = FlatDraws("stratified").draw(len(images), schedule, draws, device).t
    losses = torch.zeros(len(images), device=device)
    start, stop, _ = part.indices(len(images))
    for first in range(0, len(images), CHUNK):
        eps = torch.randn(images[first : first + CHUNK].shape, generator=draws, device=device)
        last = min(first + len(eps), stop)
        for here in range(max(first, start), last, batch_size):
            before_batch()
            rows = slice(here, min(here + batch_size, last))
            x_0 = normalise(images[rows].to(device), scale)
            of_batch = None if labels is None else labels[rows].to(device)
            noise = eps[rows.start - first : rows.stop - first]
            if ends is not None:
                x_0, noise = ends(x_0, t[rows], noise, of_batch)
            losses[rows] = loss(with_labels(network, of_batch), x_0, t[rows], noise, schedule).float()
    return losses
