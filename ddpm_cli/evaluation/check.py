"""What `evaluate` refuses by names, numbers and images, before a network is loaded. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddpm_cli.core.extras import require_packages
from ddpm_cli.core.names import nearest
from ddpm_cli.errors import DataError, RequestError
from ddpm_cli.metrics.names import HELD_OUT, METRICS, OF_INCEPTION, OF_SAMPLES, SMALLEST_N

if TYPE_CHECKING:
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.evaluation.settings import EvaluateSettings

NEED_HELD_OUT = {*HELD_OUT, "nearest"}


def check_metrics(metrics: Sequence[str]) -> None:
    """Refuse metrics that do not exist.

    Raises:
        RequestError: Naming the first of them.
    """
    for name in metrics:
        if name not in METRICS:
            raise RequestError(f"There is no metric {name!r}; {nearest(name, METRICS)}.", f"Metrics: {', '.join(METRICS)}.")


def check_numbers(metrics: Sequence[str], settings: EvaluateSettings) -> None:
    """Refuse metrics that do not exist, lack their package, or cannot be had of so few images.

    Raises:
        RequestError: Naming the metric, or the number.
    """
    check_metrics(metrics)
    if settings.likelihood_respaced and (settings.likelihood_steps is None or "bits-per-dim" not in metrics):
        raise RequestError(
            "A respaced bound is bits-per-dim with fewer steps than the schedule has.",
            "Give --likelihood-steps and --metrics bits-per-dim.",
        )
    if set(metrics) & set(OF_INCEPTION):
        require_packages("Each of FID, KID, Inception Score, precision and recall", "metrics", "torch-fidelity")
    for metric in metrics:
        numbers = {"n": settings.n_of(metric), "repeats": settings.repeats, "batch_size": settings.batch_size}
        for name, value in numbers.items():
            if value < 1:
                raise RequestError(f"{name} must be at least 1, not {value}.", "Give a positive number.")
        if metric in SMALLEST_N and settings.n_of(metric) < SMALLEST_N[metric]:
            smallest = SMALLEST_N[metric]
            raise RequestError(
                f"{metric} needs at least {smallest} samples, not {settings.n_of(metric)}.", f"Give --n {smallest} or more."
            )


def check_images(dataset: Dataset, image_shape: tuple[int, int, int], metrics: Sequence[str], settings: EvaluateSettings) -> None:
    """Refuse images of another size than the model's, and metrics that need held-out ones where there are none.

    Raises:
        RequestError: Naming what differs.
        DataError: If there are no held-out images.
    """
    if dataset.image_shape != image_shape:
        raise RequestError(
            f"The images of {dataset.name} have the shape {dataset.image_shape}, those of the model {image_shape}.",
            "Name the model's own data set.",
        )
    against_test = settings.reference == "test" and set(metrics) & set(OF_SAMPLES)
    if len(dataset.test) == 0 and (set(metrics) & NEED_HELD_OUT or against_test):
        raise no_held_out(dataset.name)


def no_held_out(data: str) -> DataError:
    """What to say where images that training never saw are needed and a data set has none."""
    return DataError(f"{data} has no held-out images.", "Train with some: data.held_out above 0, or a folder test/ beside train/.")
