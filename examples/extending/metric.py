"""Add a metric: `ddpm evaluate --metrics spread`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm_cli.metrics.registry import Metric

if TYPE_CHECKING:
    from ddpm_cli.metrics.features import FeatureExtractor, FeatureSource, RealFeatureSource


def spread(reference: RealFeatureSource, samples: FeatureSource, extractor: FeatureExtractor) -> dict[str, float]:
    """Divide the variance of the samples' features by that of real ones: below 1, samples are too much alike."""
    real, drawn = (images.statistics(extractor).covariance.trace() for images in (reference, samples))
    return {"spread": float(drawn / real)}


SPREAD = Metric(
    name="spread",
    about="Variance of the samples' features as a share of that of real images; below 1 they are too much alike.",
    extractor="classifier",
    compute=spread,
    direction="higher",
    smallest_n=2,
    reliable_n=500,
    note="a variance of few images is noisy",
)
