"""Measure the loss on held-out images as a function of t."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ddpm_cli.core.compute.seeds import generator
from ddpm_cli.data.images import images_sha256
from ddpm_cli.diffusion.guidance import with_labels
from ddpm_cli.diffusion.objectives.timestep_draws import draw_steps_within
from ddpm_cli.render.pictures.evaluate_pictures import save_timestep_losses
from ddpm_cli.results.events import EvaluateProgress, Listener, TimestepLosses, ignore
from ddpm_cli.results.figure import Figure

if TYPE_CHECKING:
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.evaluation.settings import EvaluateSettings
    from ddpm_cli.sampling.trained_model import TrainedModel

METRIC = "loss-per-timestep"
BINS = 20
PLOT = "loss-per-timestep.png"


def loss_per_timestep(
    trained: TrainedModel, dataset: Dataset, settings: EvaluateSettings, folder: Path | None = None, on_event: Listener = ignore
) -> Figure:
    """Measure the loss that the model was trained with, on each held-out image once in each of 20 equal ranges of t.

    t is drawn uniformly within a range; t and noise follow from the seed, so that models are compared on the same draws.

    Args:
        trained: The model.
        dataset: Its data, with held-out images.
        settings: n, batch size and seed.
        folder: Where the plot belongs; None for no plot.
        on_event: Told of progress, and given the curve when it is plotted.
    Returns:
        The mean over all t; the curve stands in `rows`: first and last t of a range, mean loss, its standard error.
    """
    n = settings.n_of(METRIC)
    images, labels = dataset.test.images[:n], dataset.test.labels[:n]
    edges = np.linspace(0, trained.schedule.timesteps, min(BINS, trained.schedule.timesteps) + 1).round().astype(int).tolist()
    bins = list(pairwise(edges))
    losses = []
    for start in range(0, len(images), settings.batch_size):
        rows = slice(start, start + settings.batch_size)
        losses.append(_losses(trained, images[rows], labels[rows], bins, settings.seed, start))
        on_event(EvaluateProgress(METRIC, min(rows.stop, len(images)), len(images), "images"))
    curve, value, error = _curve(torch.cat(losses), bins)
    if folder is not None:
        save_timestep_losses(curve, folder / PLOT)
        on_event(TimestepLosses(curve, folder / PLOT))
    objective = trained.config.objective
    return Figure(
        metric=METRIC,
        unit="",
        value=value,
        standard_error=error,
        terms={},
        details={
            "loss": objective.loss.kind,
            "parameterization": objective.parameterization.kind,
            "weighting": objective.weighting.told.kind,
            "timesteps": trained.schedule.timesteps,
        },
        n=len(images),
        split="test",
        data=dataset.name,
        sha256=images_sha256(images),
        seed=settings.seed,
        rows=tuple(curve),
    )


@torch.no_grad()
def _losses(
    trained: TrainedModel, pixels: np.ndarray, labels: np.ndarray, bins: list[tuple[int, int]], seed: int, start: int
) -> Tensor:
    """Loss of each image in each range of t, float64 [B, bins], on the CPU."""
    device = trained.device
    x_0 = trained.scale.normalise(torch.from_numpy(pixels).to(device))
    of_batch = None if trained.num_classes is None else torch.from_numpy(labels).to(device)
    network, loss = with_labels(trained.network, of_batch), trained.config.objective.build_loss(trained.scale.levels)
    draws = generator(device, seed, METRIC, start)
    columns = []
    for low, high in bins:
        t = draw_steps_within(low, high, len(x_0), trained.schedule, draws, device)
        eps = torch.randn(x_0.shape, generator=draws, device=device)
        columns.append(loss(network, x_0, t, eps, trained.schedule).double().cpu())
    return torch.stack(columns, dim=1)


def _curve(losses: Tensor, bins: list[tuple[int, int]]) -> tuple[list[dict[str, float]], float, float | None]:
    """The rows of the curve, the mean over t and its standard error; `losses` is float64 [N, bins]."""
    several = len(losses) > 1
    errors = losses.std(dim=0) / len(losses) ** 0.5 if several else torch.zeros(len(bins))
    rows = [
        {"t_first": low, "t_last": high - 1, "loss": float(mean), "standard_error": float(error)}
        for (low, high), mean, error in zip(bins, losses.mean(dim=0), errors, strict=True)
    ]
    widths = torch.tensor([high - low for low, high in bins], dtype=torch.float64)
    of_images = losses @ (widths / widths.sum())
    return rows, float(of_images.mean()), float(of_images.std()) / len(losses) ** 0.5 if several else None
