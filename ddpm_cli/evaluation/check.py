"""Refuse names, numbers and images that `evaluate` cannot work with, before a network is loaded. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ddpm_cli.core.asking import as_option
from ddpm_cli.core.extras import require_packages
from ddpm_cli.core.names import nearest
from ddpm_cli.data.scale import USUAL, Scale
from ddpm_cli.errors import DataError, RequestError
from ddpm_cli.evaluation.settings import USUALLY
from ddpm_cli.metrics.registry import known_metrics, likelihoods, of_samples

if TYPE_CHECKING:
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.evaluation.settings import EvaluateSettings, Measuring


def check_metrics(metrics: Sequence[str]) -> None:
    """Refuse metrics that do not exist.

    Raises:
        RequestError: Naming the first of them.
    """
    known = known_metrics()
    for name in metrics:
        if name not in known:
            raise RequestError(f"There is no metric {name!r}; {nearest(name, known)}.", f"Metrics: {', '.join(known)}.")


def check_effects(metrics: Sequence[str], asked: Measuring, spelt: Callable[[str], str] = as_option) -> None:
    """Refuse what none of the metrics takes.

    Raises:
        RequestError: Naming it.
    """
    by_itself = f"{spelt('steps')} is of the sampler, {spelt('likelihood_steps')} of likelihoods."
    for name, takers in _takers().items():
        value = asked.get(name)
        if value not in (None, USUALLY.get(name)) and not set(metrics) & set(takers):
            raise RequestError(
                f"{spelt(name)} has no effect on {', '.join(metrics)}: it is for {', '.join(takers)}.",
                by_itself if "steps" in name else f"Leave {spelt(name)} out.",
            )


def _takers() -> dict[str, list[str]]:
    """List the metrics that take what not all of them do; where a network is found may be said beside any."""
    of_the_sampler = ("sampler", "steps", "guidance", "guide_with", "guide_scale", "repeats", "reference")
    return dict.fromkeys(of_the_sampler, of_samples()) | {"likelihood_steps": likelihoods(), "variance": ["bits-per-dim"]}


def check_sets(sets: Iterable[str]) -> None:
    """Refuse settings of sampling that say what measuring has a word of its own for.

    Args:
        sets: Dotted keys, or `key=value` texts.
    Raises:
        RequestError: Naming the first of them.
    """
    for key in (text.partition("=")[0] for text in sets):
        if key in ("sample.n", "sample.batch_size"):
            raise RequestError(f"{key} has no effect on a metric.", f"Say {key.rpartition('.')[2]} beside the metrics instead.")


def check_numbers(metrics: Sequence[str], settings: EvaluateSettings, spelt: Callable[[str], str] = as_option) -> None:
    """Refuse metrics that do not exist, lack their package, or cannot be had of so few images.

    Raises:
        RequestError: Naming the metric, or the number.
    """
    check_metrics(metrics)
    if settings.likelihood_respaced and (settings.likelihood_steps is None or "bits-per-dim" not in metrics):
        raise RequestError(
            "A respaced bound is bits-per-dim with fewer steps than the schedule has.",
            f"Give {spelt('likelihood_steps')} and {spelt('metrics')} bits-per-dim.",
        )
    asked = {name: known_metrics()[name] for name in metrics}
    if any(metric.extractor == "inception" for metric in asked.values()):
        require_packages("Each of FID, KID, Inception Score, precision and recall", "metrics", "torch-fidelity")
    for name, metric in asked.items():
        numbers = {"n": settings.n_of(name), "repeats": settings.repeats, "batch_size": settings.batch_size}
        for number, value in numbers.items():
            if value < 1:
                raise RequestError(f"{number} must be at least 1, not {value}.", "Give a positive number.")
        if (n := settings.n_of(name)) < metric.smallest_n:
            raise RequestError(
                f"{name} needs at least {metric.smallest_n} samples, not {n}.", f"Give {spelt('n')} {metric.smallest_n} or more."
            )


def check_images(
    dataset: Dataset,
    image_shape: tuple[int, int, int],
    metrics: Sequence[str],
    settings: EvaluateSettings,
    scale: Scale = USUAL,
) -> None:
    """Refuse images of another size or range than the model's, and metrics that need held-out ones where there are none.

    Raises:
        RequestError: Naming what differs.
        DataError: If there are no held-out images.
    """
    if dataset.image_shape != image_shape:
        raise RequestError(
            f"The images of {dataset.name} have the shape {dataset.image_shape}, those of the model {image_shape}.",
            "Name the model's own data set.",
        )
    if dataset.scale != scale:
        raise RequestError(
            f"The pixels of {dataset.name} go from {dataset.scale}, those of the model from {scale}.",
            "Measure it with the range of its own data.",
        )
    asked = [known_metrics()[name] for name in metrics]
    against_test = settings.reference == "test" and any(metric.is_of_samples for metric in asked)
    if len(dataset.test) == 0 and (against_test or any(metric.needs_held_out for metric in asked)):
        raise no_held_out(dataset.name)


def no_held_out(data: str) -> DataError:
    """Say that images that training never saw are needed and a data set has none."""
    return DataError(f"{data} has no held-out images.", "Train with some: data.held_out above 0, or a folder test/ beside train/.")
