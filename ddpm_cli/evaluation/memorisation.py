"""Measure `nearest`: whether samples lie closer to training images than new images do, in pixels and in features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ddpm_cli.core.io.files import UnreadableError, atomic_write, make_folder
from ddpm_cli.core.io.tensor_files import read_summed, summed
from ddpm_cli.evaluation.feature_sources import in_batches
from ddpm_cli.evaluation.references import RealImages, references_folder
from ddpm_cli.metrics.memorisation import FALSE_ALARM_RATE, NEIGHBOURS, memorised, relative_distances
from ddpm_cli.metrics.nearest import nearest_few
from ddpm_cli.render.pictures.evaluate_pictures import save_pairs
from ddpm_cli.results.events import EvaluateProgress, Listener, NearestPairs, Notice

if TYPE_CHECKING:
    from ddpm_cli.evaluation.sample_parts import SampleSet
    from ddpm_cli.metrics.features import FeatureExtractor

HELD_OUT = 10_000
"""Held-out images whose distances are measured, at most: enough for a false-alarm rate of one in a thousand."""
PAIRS = 24
PICTURE = "nearest.png"
SPACES = ("pixels", "features")


@dataclass(frozen=True)
class Memorisation:
    """Hold what was found.

    Attributes:
        shares: Of the samples of each set that are closer to a training image in pixels than new images are.
        details: The same for features, counts, the rate of false alarms, and typical distances.
        sentences: What it means, in words.
    """

    shares: list[float]
    details: dict[str, str | int | float]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class _Nearest:
    """Hold of each image the training image that is nearest.

    Attributes:
        indices: Which one that is, int64 [N].
        distances: How far it is, float64 [N].
        scores: How far in units of the distance of others, float64 [N], see `relative_distances`.
    """

    indices: Tensor
    distances: Tensor
    scores: Tensor

    @classmethod
    def of(cls, queries: Iterator[Tensor], references: Tensor) -> _Nearest:
        """Search for batches of queries, [B, D] each, among references, [M, D]."""
        found = [nearest_few(batch, references, NEIGHBOURS) for batch in queries]
        distances, indices = torch.cat([one[0] for one in found]), torch.cat([one[1] for one in found])
        return cls(indices[:, 0], distances[:, 0].contiguous(), relative_distances(distances))


def measure_memorisation(
    sets: Sequence[SampleSet],
    training: RealImages,
    held_out: RealImages,
    extractor: FeatureExtractor,
    folder: Path | None,
    on_event: Listener,
) -> Memorisation:
    """Find the training image that is nearest to each sample, and judge how near it is by held-out images.

    Args:
        sets: Sets of samples.
        training: All images that the model was trained on.
        held_out: Images that it was not trained on.
        extractor: Of the features.
        folder: Where the picture of the closest pairs belongs; None for none.
        on_event: Told of progress, and given the pairs when they are drawn.
    """
    held_out = held_out.some(HELD_OUT)
    usual = of_held_out(held_out, training, extractor, on_event)
    found = [_of_samples(samples, training, extractor, on_event) for samples in sets]
    if folder is not None:
        pairs = _closest_pairs(sets[0], found[0]["pixels"], training, folder)
        save_pairs(pairs.samples, pairs.neighbours, pairs.path)
        on_event(pairs)
    verdicts = {
        space: [memorised(of_set[space].scores, usual[f"{space}.scores"], FALSE_ALARM_RATE) for of_set in found] for space in SPACES
    }
    flagged = {space: [int(of_set.flagged.sum()) for of_set in verdicts[space]] for space in SPACES}
    rate = verdicts["pixels"][0].false_alarm_rate
    n = sets[0].count
    drawn = n * len(sets)
    details: dict[str, str | int | float] = {
        "reference_images": training.count,
        "held_out_images": held_out.count,
        "closeness": f"distance to the nearest over the mean distance to the {min(NEIGHBOURS, training.count)} nearest",
        "false_alarm_rate": rate,
        "flagged_in_pixels": sum(flagged["pixels"]),
        "flagged_in_features": sum(flagged["features"]),
    }
    for space in SPACES:
        details[f"median_distance_in_{space}"] = float(torch.cat([of_set[space].distances for of_set in found]).median())
        details[f"held_out_median_distance_in_{space}"] = float(usual[f"{space}.distances"].median())
    sentences = tuple(_sentence(space, sum(flagged[space]), drawn, rate) for space in SPACES)
    return Memorisation([count / n for count in flagged["pixels"]], details, sentences)


def _sentence(space: str, flagged: int, drawn: int, rate: float) -> str:
    return (
        f"In {space}, {flagged:,} of {drawn:,} samples ({100 * flagged / drawn:.3g} %) lie closer to a training image than all but "
        f"{100 * rate:.3g} % of held-out images do; of new images {100 * rate:.3g} % would."
    )


def _of_samples(samples: SampleSet, training: RealImages, extractor: FeatureExtractor, on_event: Listener) -> dict[str, _Nearest]:
    images = (samples.images(part) for part in range(samples.parts))
    return _nearest_by_space(images, samples.count, samples.features(extractor), training, extractor, on_event)


def of_held_out(held_out: RealImages, training: RealImages, extractor: FeatureExtractor, on_event: Listener) -> dict[str, Tensor]:
    """Measure scores and distances of held-out images by space, from the cache if they are there."""
    key = held_out.key("nearest", NEIGHBOURS, training.split_sha256, training.count, extractor.name, extractor.sha256)
    path = references_folder() / f"{key}-nearest.safetensors"
    try:
        if path.exists():
            return read_summed(path)
    except (UnreadableError, OSError) as error:
        on_event(Notice(f"{path} {error}. It is computed anew.", important=True))
    features = held_out.features(extractor)
    found = _nearest_by_space(held_out.batches(), held_out.count, features, training, extractor, on_event)
    tensors = {f"{space}.{name}": getattr(found[space], name) for space in SPACES for name in ("scores", "distances")}
    make_folder(path.parent)
    atomic_write(path, summed({name: tensor.contiguous() for name, tensor in tensors.items()}))
    return tensors


def _nearest_by_space(
    images: Iterator[Tensor],
    count: int,
    features: Tensor,
    training: RealImages,
    extractor: FeatureExtractor,
    on_event: Listener,
) -> dict[str, _Nearest]:
    """Nearest training images by pixels in [0, 255] and by features; images come as uint8 [B, C, H, W]."""
    pixels = _counted((batch.flatten(1) for batch in images), count, on_event)
    return {
        "pixels": _Nearest.of(pixels, torch.from_numpy(training.view).flatten(1)),
        "features": _Nearest.of(in_batches(features), training.features(extractor)),
    }


def _counted(batches: Iterator[Tensor], count: int, on_event: Listener) -> Iterator[Tensor]:
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        on_event(EvaluateProgress("nearest", done, count, "images"))


def _closest_pairs(samples: SampleSet, found: _Nearest, training: RealImages, folder: Path) -> NearestPairs:
    closest = found.scores.argsort(stable=True)[:PAIRS].tolist()
    images = [samples.images(number // samples.part_size)[number % samples.part_size].numpy() for number in closest]
    neighbours = training.view[found.indices[closest].numpy()]
    return NearestPairs(np.stack(images), np.ascontiguousarray(neighbours), folder / PICTURE)
