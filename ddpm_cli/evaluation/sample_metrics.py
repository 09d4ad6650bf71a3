"""Metrics that compare samples with real images by the features of both."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.core.io.files import UnreadableError, atomic_write, make_folder, read_json_object, to_json
from ddpm_cli.evaluation.check import no_held_out
from ddpm_cli.evaluation.memorisation import measure_memorisation
from ddpm_cli.evaluation.references import RealImages, references_folder
from ddpm_cli.metrics.frechet import frechet_distance
from ddpm_cli.metrics.inception_score import SPLITS, inception_score
from ddpm_cli.metrics.kid import kernel_distance, usable_subset_size
from ddpm_cli.metrics.precision_recall import NEIGHBOURS, precision_recall
from ddpm_cli.results.events import Listener, ignore
from ddpm_cli.results.figure import Figure
from ddpm_cli.sampling.drawing import drawing_facts

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.evaluation.extractors import Kind
    from ddpm_cli.evaluation.feature_sources import FeatureSource
    from ddpm_cli.evaluation.sample_parts import SampleSet
    from ddpm_cli.metrics.features import FeatureExtractor

Details = dict[str, str | int | float]
Values = dict[str, float]
"""Values by name: the metric's own, or precision and recall."""


@dataclass(frozen=True)
class SampleMetric:
    """How one metric is measured and what must be said beside it.

    Attributes:
        extractor: Kind of network that looks at the images.
        smallest_n: Samples that it is defined for.
        reliable_n: Samples from which on `note` is not needed.
        note: What is wrong with fewer.
        unit: Of the value.
    """

    extractor: Kind
    smallest_n: int
    reliable_n: int
    note: str
    unit: str = ""


_BIASED = "biased upwards, the more the smaller n is: compare it only at equal n"
SAMPLE_METRICS = {
    "fid": SampleMetric("inception", 2, 10_000, _BIASED),
    "kid": SampleMetric("inception", 2, 1000, "unbiased but noisy, and its subsets are smaller than the usual 1,000"),
    "inception-score": SampleMetric("inception", SPLITS, 5000, "biased downwards, the more the smaller n is"),
    "precision-recall": SampleMetric(
        "inception", NEIGHBOURS + 1, 5000, "they depend on n: compare them only at equal n", unit="share"
    ),
    "fcd": SampleMetric("classifier", 2, 2000, _BIASED),
    "nearest": SampleMetric("classifier", 1, 1, "", unit="share"),
}


@dataclass(frozen=True)
class SampleMeasurement:
    """All that the metrics of samples are measured with.

    Attributes:
        sets: Independent sets of samples, drawn and looked at.
        reference: The split that they are measured against, or, for nearest, the training images.
        held_out: The other split, for the floor; None if it is empty.
        sample: How the samples were drawn.
        timesteps: T of the model's schedule.
        folder: Where pictures belong; None for none.
        on_event: Told of progress, and given pictures to draw.
    """

    sets: Sequence[SampleSet]
    reference: RealImages
    held_out: RealImages | None
    sample: SampleConfig
    timesteps: int
    folder: Path | None = None
    on_event: Listener = ignore

    def figures(self, metric: str, extractor: FeatureExtractor) -> list[Figure]:
        """One figure, or for precision-recall one of each.

        Raises:
            RequestError: If the metric cannot be had of so few images.
        """
        if metric == "nearest":
            return [self._memorisation(extractor)]
        n, reference = self.sets[0].count, self._used_reference(metric)
        found = [_MEASURES[metric](self.reference, samples, extractor) for samples in self.sets]
        floor = self._floor(metric, extractor, n)
        details = self.details(extractor) | _method(metric, self.reference, n, extractor)
        figures = []
        for name in found[0]:
            figure = self._figure(name, SAMPLE_METRICS[metric].unit, [values[name] for values in found], details, reference)
            if floor and self.held_out:
                figure = replace(figure, floor=floor[name], floor_n=min(n, self.held_out.count))
            figures.append(replace(figure, notes=self._notes(metric, n)))
        return figures

    def _memorisation(self, extractor: FeatureExtractor) -> Figure:
        if self.held_out is None:
            raise no_held_out(self.reference.data)
        found = measure_memorisation(self.sets, self.reference, self.held_out, extractor, self.folder, self.on_event)
        details = self.details(extractor) | found.details
        figure = self._figure("nearest", SAMPLE_METRICS["nearest"].unit, found.shares, details, self.reference)
        return replace(figure, notes=found.sentences)

    def _figure(self, name: str, unit: str, values: Sequence[float], details: Details, reference: RealImages | None) -> Figure:
        """The mean over the sets, and its spread."""
        return Figure(
            metric=name,
            unit=unit,
            value=statistics.fmean(values),
            standard_error=None,
            terms={},
            details=details,
            n=self.sets[0].count,
            split=reference.split if reference else "none",
            data=self.reference.data,
            sha256=reference.sha256 if reference else "",
            seed=self.sets[0].seeds.start,
            spread=statistics.stdev(values) if len(values) > 1 else None,
            repeats=len(values),
        )

    def details(self, extractor: FeatureExtractor) -> Details:
        """What every figure of these samples depends on."""
        of_extractor: Details = {"extractor": extractor.name, "extractor_sha256": extractor.sha256}
        return of_extractor | drawing_facts(self.sample, self.timesteps)

    def _used_reference(self, metric: str) -> RealImages | None:
        if metric == "inception-score":
            return None
        return self.reference.some(self.sets[0].count) if metric == "precision-recall" else self.reference

    def _notes(self, metric: str, n: int) -> tuple[str, ...]:
        rules, notes = SAMPLE_METRICS[metric], []
        if n < rules.reliable_n:
            notes.append(f"n = {n:,} is small (below {rules.reliable_n:,}): {rules.note}.")
        if self.held_out is None:
            notes.append(f"No floor: {self.reference.data} has no other real images to measure.")
        elif self.held_out.count < n:
            notes.append(f"The floor is of {self.held_out.count:,} real images, all that there are; at n = {n:,} it would differ.")
        return tuple(notes)

    def _floor(self, metric: str, extractor: FeatureExtractor, n: int) -> Values | None:
        """The metric of real images that are not the reference, from the cache if it is there."""
        if self.held_out is None or self.held_out.count < SAMPLE_METRICS[metric].smallest_n:
            return None
        real = self.held_out.some(n)
        key = real.key("floor", metric, self.reference.split_sha256, self.reference.count, extractor.name, extractor.sha256)
        path = references_folder() / f"{key}-floor.json"
        if (known := _read_floor(path)) is not None:
            return known
        floor = _MEASURES[metric](self.reference, real, extractor)
        make_folder(path.parent)
        atomic_write(path, to_json(floor))
        return floor


def _frechet(reference: FeatureSource, images: FeatureSource, extractor: FeatureExtractor, name: str) -> Values:
    return {name: frechet_distance(reference.statistics(extractor), images.statistics(extractor))}


def _fid(reference: RealImages, images: FeatureSource, extractor: FeatureExtractor) -> Values:
    return _frechet(reference, images, extractor, "fid")


def _fcd(reference: RealImages, images: FeatureSource, extractor: FeatureExtractor) -> Values:
    return _frechet(reference, images, extractor, "fcd")


def _kid(reference: RealImages, images: FeatureSource, extractor: FeatureExtractor) -> Values:
    size = usable_subset_size(reference.count, images.count)
    return {"kid": kernel_distance(reference.features(extractor), images.features(extractor), subset_size=size)[0]}


def _inception_score(_: RealImages, images: FeatureSource, extractor: FeatureExtractor) -> Values:
    return {"inception-score": inception_score(images.logits(extractor))[0]}


def _precision_recall(reference: RealImages, images: FeatureSource, extractor: FeatureExtractor) -> Values:
    """Against as many real images as there are others, because the manifold of more images has smaller balls."""
    real = reference.some(images.count).features(extractor)
    precision, recall = precision_recall(real, images.features(extractor))
    return {"precision": precision, "recall": recall}


_MEASURES: dict[str, Callable[[RealImages, FeatureSource, FeatureExtractor], Values]] = {
    "fid": _fid,
    "kid": _kid,
    "inception-score": _inception_score,
    "precision-recall": _precision_recall,
    "fcd": _fcd,
}


def _method(metric: str, reference: RealImages, n: int, extractor: FeatureExtractor) -> Details:
    """The metric's own constants, and how many real images it was measured against."""
    match metric:
        case "kid":
            return {"reference_images": reference.count, "subset_size": usable_subset_size(reference.count, n)}
        case "inception-score":
            return {"splits": SPLITS}
        case "precision-recall":
            return {"reference_images": min(n, reference.count), "neighbours": NEIGHBOURS}
        case _:
            return {"reference_images": reference.count, "dimensions": extractor.dimensions}


def _read_floor(path: Path) -> Values | None:
    """What the file holds; None if there is none, or a damaged one, which is then measured anew."""
    try:
        return {name: float(value) for name, value in read_json_object(path).items()} if path.exists() else None
    except (UnreadableError, OSError, TypeError, ValueError):
        return None
