"""Measure images that were given: any program may have made them, so that no model is asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ddpm_cli.core.compute.team import Team
from ddpm_cli.core.io.downloads import cache_directory
from ddpm_cli.core.io.files import make_folder
from ddpm_cli.core.io.space import require_space, sample_files_bytes
from ddpm_cli.data.images import images_sha256
from ddpm_cli.errors import RequestError
from ddpm_cli.evaluation.check import check_numbers, no_held_out
from ddpm_cli.evaluation.extractors import Extractors, require_logits
from ddpm_cli.evaluation.given.drawn import given_reference
from ddpm_cli.evaluation.given.reference import differences, require_size
from ddpm_cli.evaluation.reference_choice import ReferenceChoice
from ddpm_cli.evaluation.sample_metrics import SampleMeasurement
from ddpm_cli.evaluation.sample_parts import SampleSet, look_at_part, part_size
from ddpm_cli.evaluation.settings import SPLITS
from ddpm_cli.evaluation.work_folder import WORK, alone, refuse_links, remove, require_finite
from ddpm_cli.metrics.registry import known_metrics
from ddpm_cli.results.events import EvaluateProgress, Listener, Notice
from ddpm_cli.runs.figures import append_figures, stored_figures

if TYPE_CHECKING:
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.evaluation.given.images import GivenImages
    from ddpm_cli.evaluation.given.reference import GivenReference
    from ddpm_cli.evaluation.settings import EvaluateSettings
    from ddpm_cli.metrics.features import FeatureExtractor
    from ddpm_cli.metrics.registry import Details, Metric
    from ddpm_cli.results.figure import Figure

NO_STEP = 0
"""What is stored as the step of figures that are of no checkpoint."""


@dataclass(frozen=True)
class GivenSamples(SampleSet):
    """Hold images that were given as a set of samples: they are read where they lie, and only their features are kept.

    Attributes:
        given: The images.
    """

    given: GivenImages = field(kw_only=True)

    def images(self, part: int) -> Tensor:
        """Read the images of a part, uint8 [N, C, H, W]."""
        rows = self.seeds_of(part)
        return torch.from_numpy(np.ascontiguousarray(self.given[np.arange(rows.start, rows.stop)]))


@dataclass(frozen=True)
class GivenJob:
    """Measure given images.

    Attributes:
        images: They, those that are measured.
        dataset: What they are measured against unless a reference was given, and what the classifier is of; None for no data.
        settings: How to measure.
        out: Folder that figures are appended to; None keeps none.
        device: Where networks look at them.
        on_event: Told of progress, notices and pictures.
    """

    images: GivenImages
    dataset: Dataset | None
    settings: EvaluateSettings
    out: Path | None
    device: torch.device
    on_event: Listener

    def check(self, metrics: Sequence[str]) -> None:
        """Refuse what cannot be measured, before any work.

        Raises:
            RequestError: Naming the metric and what it lacks.
            DataError: If colours would be lost, or held-out images are missing.
        """
        check_numbers(metrics, self.settings)
        records = [known_metrics()[name] for name in metrics]
        for record in records:
            self._require_something_to_compare(record)
            self._require_fitting(record)
        if self.given:
            self.given.check(metrics, self.images.shape, self.on_event)
        elif self.dataset and any(record.extractor == "inception" and record.reference != "none" for record in records):
            for notice in differences(self.images.shape, self.dataset.image_shape, f"the images of {self.images.path}", "the data"):
                self.on_event(Notice(notice, important=True))
        kinds = {record.extractor for record in records if record.extractor}
        memory = max(record.sample_bytes * self.images.count for record in records)
        require_space(self.folder, sample_files_bytes(kinds, self.images.count, (0, 0, 0)), memory)

    def figures(self, metrics: Sequence[str]) -> list[Figure]:
        """Measure them, or take what was measured before with the same settings."""
        keys = {metric: self._key(metric) for metric in metrics}
        known = {metric: stored_figures(self.out, keys[metric]) if self.out else [] for metric in metrics}
        missing = [metric for metric in metrics if not known[metric]]
        if self.out and len(missing) < len(metrics):
            names = ", ".join(metric for metric in metrics if known[metric])
            self.on_event(Notice(f"{names}: measured before with the same settings, taken from {self.out / 'figures.jsonl'}."))
        if missing:
            known |= self._measure(missing, keys)
        return [figure for metric in metrics for figure in known[metric]]

    def save_statistics(self, path: Path) -> None:
        """Write the statistics of what fid is measured against, see `ReferenceChoice.save_statistics`."""
        self.references.save_statistics(path, self.images.shape[0], self._extractor(known_metrics()["fid"]))

    @cached_property
    def given(self) -> GivenReference | None:
        """Read what they are measured against in the place of a split; None for a split."""
        if self.settings.reference in SPLITS:
            return None
        scale = self.dataset.scale if self.dataset else None
        return given_reference(Path(self.settings.reference), self.settings, self.device, Team(), self.on_event, scale)

    @cached_property
    def references(self) -> ReferenceChoice:
        """Choose what they are measured against."""
        return ReferenceChoice(self.dataset, self.given, self.settings, self.on_event)

    @cached_property
    def extractors(self) -> Extractors:
        """Load the networks that look at them."""
        settings = self.settings
        return Extractors(
            self.dataset, self.device, weights=settings.extractor_weights, fit=settings.fit_extractor, on_event=self.on_event
        )

    @cached_property
    def folder(self) -> Path:
        """Tell where the work goes: beside the figures, or in the cache where none are kept."""
        return self.out or cache_directory() / "evaluations" / self.images.sha256[:24]

    # ----------------------------------------------------------------------------------------------------------- refusals

    def _require_something_to_compare(self, record: Metric) -> None:
        if record.extractor == "classifier" and self.dataset is None:
            raise RequestError(
                f"{record.name} looks through a classifier of a data set"
                + (" and searches its training images." if record.reference == "training" else "."),
                "Name the data set: --data DATA.",
            )
        if record.reference != "none" and self.dataset is None and self.settings.reference in SPLITS:
            raise RequestError(
                f"{record.name} compares the images of {self.images.path} with others, and none are named.",
                "Name a data set, --data DATA, or images or statistics, --reference FILE.",
            )
        if self.dataset is None or len(self.dataset.test):
            return
        if record.reference == "training" or (record.reference != "none" and self.settings.reference == "test"):
            raise no_held_out(self.dataset.name)

    def _require_fitting(self, record: Metric) -> None:
        if record.extractor == "classifier" and self.dataset is not None:
            require_size(self.images, self.dataset.image_shape, f"{record.name} compares them as they are")
            self.images.with_channels(self.dataset.image_shape[0])

    # ---------------------------------------------------------------------------------------------------------- measuring

    def _key(self, metric: str) -> str:
        """Sum all that the figures of a metric depend on."""
        record, data = known_metrics()[metric], self.dataset
        splits = [data.sha256, images_sha256(data.test.images), *data.scale.facts().values()] if data else []
        facts = [metric, *record.versions, "given", self.images.sha256, list(self.images.shape), self.images.count, *splits]
        facts += [self.settings.batch_size, self.references.key(record), self._extractor(record).sha256]
        return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()

    def _extractor(self, record: Metric) -> FeatureExtractor:
        assert record.extractor is not None  # check has seen to it
        extractor = self.extractors.of(record.extractor)
        if record.needs_logits:
            require_logits(extractor, self.images.shape)
        return extractor

    def _measure(self, metrics: Sequence[str], keys: Mapping[str, str]) -> dict[str, list[Figure]]:
        make_folder(self.folder)
        with alone(self.folder):
            sets = {metric: self._samples(known_metrics()[metric]) for metric in metrics}
            found = {metric: self._measured(metric, sets[metric], keys[metric]) for metric in metrics}
            remove(list(sets.values()))
            return found

    def _samples(self, record: Metric) -> GivenSamples:
        """The images as the metric's network sees them: the classifier wants the channels of its data."""
        wanted = self.dataset.image_shape[0] if self.dataset and record.extractor == "classifier" else self.images.shape[0]
        images, size = self.images.with_channels(wanted), part_size(self.settings.batch_size)
        folder = self.folder / WORK / f"given-{images.sha256[:24]}" / f"{wanted}-{images.count}-{size}"
        refuse_links(self.folder, folder)
        make_folder(folder)
        return GivenSamples(folder, range(images.count), size, given=images)

    def _measured(self, metric: str, samples: GivenSamples, key: str) -> list[Figure]:
        record = known_metrics()[metric]
        extractor = self._extractor(record)
        for part in range(samples.parts):
            look_at_part(samples, part, extractor, self.settings.batch_size)
            done = min((part + 1) * samples.part_size, samples.count)
            self.on_event(EvaluateProgress(f"images through {extractor.name}", done, samples.count, "images"))
        reference, floor = self.references.of(record, samples.given.shape[0])
        measurement = SampleMeasurement([samples], reference, floor, self._source, self.out, self.on_event)
        figures = measurement.figures(record, extractor)
        require_finite(figures, "Look at the images.")
        if self.out:
            append_figures(self.out, figures, key, NO_STEP, ema=False)
        return figures

    @property
    def _source(self) -> Details:
        return {"samples": self.images.name, "samples_sha256": self.images.sha256}
