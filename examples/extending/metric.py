"""Add a metric: `ddpm evaluate --metrics spread`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ddpm_cli.metrics.registry import Metric

if TYPE_CHECKING:
    from ddpm_cli.metrics.features import FeatureExtractor, FeatureSource, RealFeatureSource


def spread(reference: RealFeatureSource, samples: FeatureSource, extractor: FeatureExtractor) -> dict[str, float]:
    """Compare the variance of the samples' features with that of real ones: 0 is equal, samples too much alike are far from it."""
    real, drawn = (images.statistics(extractor).covariance.trace() for images in (reference, samples))
    return {"spread": abs(math.log(drawn / real))}


SPREAD = Metric(
    name="spread",
    about="How far the variance of the samples' features is from that of real images; 0 is equal.",
    extractor="classifier",
    compute=spread,
    direction="lower",
    smallest_n=2,
    reliable_n=500,
    note="a variance of few images is noisy",
)
