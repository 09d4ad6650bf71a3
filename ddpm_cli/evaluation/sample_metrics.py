"""Measure samples against real images by the features of both."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.core.io.files import UnreadableError, atomic_write, make_folder, read_json_object, to_json
from ddpm_cli.data.scale import USUAL
from ddpm_cli.evaluation.check import no_held_out
from ddpm_cli.evaluation.memorisation import measure_memorisation
from ddpm_cli.evaluation.references import RealImages, references_folder
from ddpm_cli.results.events import Listener, ignore
from ddpm_cli.results.figure import Figure
from ddpm_cli.sampling.drawing import drawing_facts

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.evaluation.sample_parts import SampleSet
    from ddpm_cli.metrics.features import FeatureExtractor
    from ddpm_cli.metrics.registry import Details, Metric, Values


@dataclass(frozen=True)
class SampleMeasurement:
    """Hold all that the metrics of samples are measured with.

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

    def figures(self, metric: Metric, extractor: FeatureExtractor) -> list[Figure]:
        """Measure one figure, or for precision-recall one of each.

        Raises:
            RequestError: If the metric cannot be had of so few images.
        """
        if metric.measure is not None:
            return [metric.measure(self, extractor)]
        n = self.sets[0].count
        used = None if metric.reference == "none" else metric.used_reference(self.reference, n)
        found = [metric.values_of(self.reference, samples, extractor) for samples in self.sets]
        floor = self._floor(metric, extractor, n)
        details = self.details(extractor) | ({} if used is None else {"reference_images": used.count})
        details |= metric.facts(self.reference, self.sets[0], extractor) if metric.facts else {}
        figures = []
        for name in metric.values:
            figure = self.figure(name, metric.unit, [values[name] for values in found], details, used)
            if floor and self.held_out:
                figure = replace(figure, floor=floor[name], floor_n=min(n, self.held_out.count))
            figures.append(replace(figure, notes=self._notes(metric, n)))
        return figures

    def figure(self, name: str, unit: str, values: Sequence[float], details: Details, reference: RealImages | None) -> Figure:
        """Take the mean over the sets, and its spread."""
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
        """List what every figure of these samples depends on."""
        of_extractor: Details = {"extractor": extractor.name, "extractor_sha256": extractor.sha256}
        scale = self.reference.scale
        depth: Details = {} if scale == USUAL else {"depth": f"8-bit view of {scale}"}
        return of_extractor | depth | drawing_facts(self.sample, self.timesteps)

    def _notes(self, metric: Metric, n: int) -> tuple[str, ...]:
        notes = []
        if n < metric.reliable_n:
            notes.append(f"n = {n:,} is small (below {metric.reliable_n:,}): {metric.note}.")
        if self.held_out is None:
            notes.append(f"No floor: {self.reference.data} has no other real images to measure.")
        elif self.held_out.count < n:
            notes.append(f"The floor is of {self.held_out.count:,} real images, all that there are; at n = {n:,} it would differ.")
        return tuple(notes)

    def _floor(self, metric: Metric, extractor: FeatureExtractor, n: int) -> Values | None:
        """The metric of real images that are not the reference, from the cache if it is there."""
        if self.held_out is None or self.held_out.count < metric.smallest_n:
            return None
        real = self.held_out.some(n)
        facts: list[str | int] = [metric.name, self.reference.split_sha256, self.reference.count, extractor.name, extractor.sha256]
        key = real.key("floor", *facts, *metric.versions)
        path = references_folder() / f"{key}-floor.json"
        if (known := _read_floor(path)) is not None:
            return known
        floor = metric.values_of(self.reference, real, extractor)
        make_folder(path.parent)
        atomic_write(path, to_json(floor))
        return floor


def measure_nearest(measurement: SampleMeasurement, extractor: FeatureExtractor) -> Figure:
    """Measure which share of samples lies closer to training images than new ones do.

    Raises:
        DataError: If there are no held-out images.
    """
    if measurement.held_out is None:
        raise no_held_out(measurement.reference.data)
    found = measure_memorisation(
        measurement.sets, measurement.reference, measurement.held_out, extractor, measurement.folder, measurement.on_event
    )
    details = measurement.details(extractor) | found.details
    return replace(measurement.figure("nearest", "share", found.shares, details, measurement.reference), notes=found.sentences)


def _read_floor(path: Path) -> Values | None:
    """What the file holds; None if there is none, or a damaged one, which is then measured anew."""
    try:
        return {name: float(value) for name, value in read_json_object(path).items()} if path.exists() else None
    except (UnreadableError, OSError, TypeError, ValueError):
        return None
