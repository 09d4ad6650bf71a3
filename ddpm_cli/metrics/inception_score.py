"""Measure the Inception Score (Salimans et al. 2016): how sure it is of each image, and how many classes they cover."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ddpm_cli.errors import RequestError

if TYPE_CHECKING:
    from ddpm_cli.metrics.features import FeatureExtractor, FeatureSource

SPLITS = 10
SEED = 2020


def inception_score(logits: Tensor, *, splits: int = SPLITS, seed: int = SEED) -> tuple[float, float]:
    """Compute exp of the mean KL divergence of p(class | image) from p(class) (Salimans et al. 2016, Sec. 4).

    Shuffle and splits are torch-fidelity's, so that both report the same figure.

    Args:
        logits: Class scores before the softmax, [N, K].
        splits: Parts of about N / splits images that are scored each by itself.
        seed: Of the shuffle, without which images in the order of their classes would fill whole parts.
    Returns:
        Mean and standard deviation over the parts; a score lies between 1 and the number of classes.
    Raises:
        RequestError: If there are fewer images than parts.
    """
    if len(logits) < splits:
        raise RequestError(f"The Inception Score in {splits} parts cannot be taken of {len(logits)} images.", "Use more images.")
    order = np.random.RandomState(seed).permutation(len(logits))
    log_p = logits.to("cpu", torch.float64)[order].log_softmax(dim=1)
    bounds = [i * len(log_p) // splits for i in range(splits + 1)]
    scores = np.array([_score(log_p[start:end]) for start, end in pairwise(bounds)])
    return float(scores.mean()), float(scores.std())


def _score(log_p: Tensor) -> float:
    p = log_p.exp()
    divergence = torch.where(p > 0, p * (log_p - p.mean(dim=0).log()), 0.0).sum(dim=1)
    return float(divergence.mean().exp())


def score(reference: FeatureSource, samples: FeatureSource, extractor: FeatureExtractor) -> dict[str, float]:
    """Measure the Inception Score of samples, which no real images are needed for."""
    return {"inception-score": inception_score(samples.logits(extractor))[0]}


def facts(reference: FeatureSource, samples: FeatureSource, extractor: FeatureExtractor) -> dict[str, str | int | float]:
    """Say how many parts are scored each by itself."""
    return {"splits": SPLITS}
