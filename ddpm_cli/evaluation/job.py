"""Run one call of `evaluate`: what it may not ask for, what is known already, and the measuring of the rest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_cli.core.compute.team import Team
from ddpm_cli.core.io.downloads import cache_directory
from ddpm_cli.core.io.files import make_folder
from ddpm_cli.core.io.space import require_space, sample_files_bytes
from ddpm_cli.data.images import images_sha256
from ddpm_cli.data.scale import USUAL
from ddpm_cli.evaluation.check import check_images, check_numbers
from ddpm_cli.evaluation.extractors import Extractors, require_logits
from ddpm_cli.evaluation.given.drawn import given_reference
from ddpm_cli.evaluation.likelihood import check_likelihood
from ddpm_cli.evaluation.reference_choice import ReferenceChoice
from ddpm_cli.evaluation.sample_metrics import SampleMeasurement
from ddpm_cli.evaluation.sample_parts import SampleSet, draw_parts, part_size
from ddpm_cli.evaluation.settings import SPLITS
from ddpm_cli.evaluation.work_folder import WORK, alone, refuse_links, remove, require_finite
from ddpm_cli.metrics.registry import Details, known_metrics
from ddpm_cli.results.events import Listener
from ddpm_cli.results.figure import Figure
from ddpm_cli.runs.figures import append_figures
from ddpm_cli.sampling.bounds import Demand, require_affordable
from ddpm_cli.sampling.drawing import drawing_facts, sampler_notices, with_learned_variance
from ddpm_cli.sampling.trained_model import model_sha256

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.evaluation.given.reference import GivenReference
    from ddpm_cli.evaluation.settings import EvaluateSettings
    from ddpm_cli.metrics.features import FeatureExtractor
    from ddpm_cli.sampling.trained_model import TrainedModel

FEW_EVALUATIONS = 100
"""Of the usual ODE, and more than those of a loss."""


@dataclass(frozen=True)
class Job:
    """Run one call of `evaluate`."""

    trained: TrainedModel
    dataset: Dataset
    settings: EvaluateSettings
    out: Path | None
    ema: bool
    team: Team
    on_event: Listener

    def check(self, metrics: Sequence[str]) -> None:
        """Refuse what cannot be done, before any work.

        Raises:
            RequestError: Naming it.
        """
        trained, settings = self.trained, self.settings
        check_numbers(metrics, settings)
        check_images(self.dataset, trained.image_shape, metrics, settings, trained.scale)
        of_samples = _of_samples(metrics)
        if self.given:
            self.given.check(metrics, trained.image_shape, self.on_event)
        for metric in metrics:
            if known_metrics()[metric].is_likelihood:
                check_likelihood(metric, trained.schedule, settings.likelihood_steps, trained.scale)
        for metric in metrics:
            require_affordable(trained, self.sample, self._demand(metric), settings.bounds, self.on_event)
        if of_samples:
            seen = self.sample.seen(trained.schedule)
            for notice in sampler_notices(self.sample.sampler, seen, trained.config.objective, "sample.sampler"):
                self.on_event(notice)
            self.sample.prepare(trained.schedule)
            asked = [known_metrics()[metric] for metric in of_samples]
            kinds = {metric.extractor for metric in asked if metric.extractor}
            drawn = sum(self._numbers(of_samples)) * settings.repeats
            memory = max(metric.sample_bytes * settings.n_of(metric.name) for metric in asked)
            require_space(self.folder, sample_files_bytes(kinds, drawn, trained.image_shape), memory)

    def _demand(self, metric: str) -> Demand:
        """What a metric computes; batches of held-out images cannot be smaller, as the noise depends on them."""
        settings, n = self.settings, self.settings.n_of(metric)
        if known_metrics()[metric].is_of_samples:
            return Demand.of(self.trained, self.sample, n * settings.repeats, kept=min(n, part_size(settings.batch_size)))
        evaluations = settings.likelihood_steps or (
            self.trained.schedule.timesteps if metric == "bits-per-dim" else FEW_EVALUATIONS
        )
        return Demand(
            n, evaluations, steps_from_file=settings.likelihood_steps is None, at_once=min(settings.batch_size, n), kept=0
        )

    @cached_property
    def sample(self) -> SampleConfig:
        """Tell how samples are drawn."""
        config = self.trained.config
        sample = with_learned_variance(config, self.settings.sample or config.sample)
        guide = sample.guide.model_copy(update={"model": self.trained.guide.name}) if self.trained.guide else sample.guide
        return sample.model_copy(update={"batch_size": self.settings.batch_size, "guide": guide})

    @cached_property
    def extractors(self) -> Extractors:
        """Load the networks that look at images."""
        settings, device = self.settings, self.trained.device
        return Extractors(
            self.dataset,
            device,
            weights=settings.extractor_weights,
            fit=settings.fit_extractor,
            team=self.team,
            on_event=self.on_event,
        )

    @cached_property
    def model_sha256(self) -> str:
        """Sum all of the model that a figure depends on."""
        return model_sha256(self.trained)

    @cached_property
    def folder(self) -> Path:
        """Tell where the work goes: beside the figures, or in the cache where none are kept."""
        return self.out or cache_directory() / "evaluations" / self.model_sha256[:24]

    @cached_property
    def given(self) -> GivenReference | None:
        """Read what samples are measured against in the place of a split; None for a split."""
        settings = self.settings
        if settings.reference in SPLITS:
            return None
        return given_reference(
            Path(settings.reference), settings, self.trained.device, self.team, self.on_event, self.trained.scale
        )

    @cached_property
    def references(self) -> ReferenceChoice:
        """Choose what samples are measured against."""
        return ReferenceChoice(self.dataset, self.given, self.settings, self.on_event)

    # ----------------------------------------------------------------------------------------------------------- what is known

    def key(self, metric: str) -> str:
        """Sum all that the figures of a metric depend on."""
        settings, record = self.settings, known_metrics()[metric]
        facts = [metric, *record.versions, self.model_sha256, settings.n_of(metric), settings.seed, *self._splits]
        if record.is_of_samples:
            facts += [self._drawing, settings.repeats, self.references.key(record), self._extractor(metric).sha256]
        else:
            facts += [settings.batch_size, self.sample.threshold.model_dump(mode="json")]
        if record.is_likelihood:
            facts += [settings.likelihood_steps, settings.variance, *(["respaced"] if settings.likelihood_respaced else [])]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @cached_property
    def _splits(self) -> list[str]:
        return [self.dataset.sha256, images_sha256(self.dataset.test.images)]

    @cached_property
    def _drawing(self) -> dict[str, Any]:
        """What samples depend on besides the model and their seeds."""
        drawing = self.sample.model_dump(mode="json", include={"sampler", "guidance", "threshold"})
        if drawing["sampler"].get("along") == "auto":  # as before there was a choice
            del drawing["sampler"]["along"]
        if not self.sample.path.is_own:  # left out where it is, as keys were before there was another
            drawing["path"] = self.sample.path.model_dump(mode="json")
        if self.trained.guide is not None:  # by its weights: names stay when a run is trained anew
            guide = self.sample.guide.model_dump(mode="json", include={"scale", "interval"})
            drawing["guide"] = guide | {"sha256": model_sha256(self.trained.guide.model)}
        return drawing

    def _extractor(self, metric: str) -> FeatureExtractor:
        record = known_metrics()[metric]
        assert record.extractor is not None  # it is of samples
        extractor = self.extractors.of(record.extractor)
        if record.needs_logits:
            require_logits(extractor, self.trained.image_shape)
        return extractor

    # -------------------------------------------------------------------------------------------------------------- measuring

    def measure(self, metrics: Sequence[str], keys: Mapping[str, str]) -> dict[str, list[Figure]]:
        """Measure the figures of each metric, stored under its key; none on processes other than the main one."""
        of_samples = _of_samples(metrics)
        if self.out or of_samples:
            make_folder(self.folder)
        busy = self.team.is_main and (self.out or of_samples)
        with alone(self.folder) if busy else nullcontext():
            by_n = {n: self._sample_sets(n) for n in self._numbers(of_samples)}
            sets = [samples for of_n in by_n.values() for samples in of_n]
            if sets:
                extractors = {self._extractor(metric) for metric in of_samples}
                draw_parts(sets, self.trained, self.sample, list(extractors), self.team, self.on_event)
            self.team.wait()
            if not self.team.is_main:
                return {}
            found = {metric: self._store(self._measured(metric, by_n), keys[metric]) for metric in metrics}
            remove(sets)
            return found

    def _numbers(self, of_samples: Sequence[str]) -> list[int]:
        """How many samples a set has; several numbers where metrics are asked for that are usually measured with different ones."""
        return list(dict.fromkeys(map(self.settings.n_of, of_samples)))

    def _sample_sets(self, n: int) -> list[SampleSet]:
        settings, size = self.settings, part_size(self.settings.batch_size)
        facts = json.dumps([self.model_sha256, self._drawing, size])
        work = self.folder / WORK / hashlib.sha256(facts.encode()).hexdigest()[:24]
        firsts = [settings.seed + number * n for number in range(settings.repeats)]
        sets = [SampleSet(work / f"{first}-{n}", range(first, first + n), size) for first in firsts]
        for samples in sets:
            refuse_links(self.folder, samples.folder)
            make_folder(samples.folder)
        return sets

    def _measured(self, metric: str, by_n: Mapping[int, Sequence[SampleSet]]) -> list[Figure]:
        record = known_metrics()[metric]
        if not record.is_of_samples:
            assert record.measure is not None  # there is nothing to compute it of
            return [record.measure(self.trained, self.dataset, self.settings, self.out, self.on_event)]
        scale = self.trained.scale
        depth: Details = {} if scale == USUAL else {"depth": f"8-bit view of {scale}"}
        measurement = SampleMeasurement(
            by_n[self.settings.n_of(metric)],
            *self.references.of(record, self.trained.image_shape[0]),
            depth | drawing_facts(self.sample, self.trained.schedule.timesteps),
            self.out,
            self.on_event,
        )
        return measurement.figures(record, self._extractor(metric))

    def save_statistics(self, path: Path) -> None:
        """Write the statistics of what fid is measured against, see `ReferenceChoice.save_statistics`."""
        self.references.save_statistics(path, self.trained.image_shape[0], self._extractor("fid"))

    def _store(self, figures: list[Figure], key: str) -> list[Figure]:
        require_finite(figures, "Look at the model's samples: its training may have diverged.")
        if (width := self.trained.width) is not None:
            figures = [replace(figure, details=figure.details | {"ema_width": width}) for figure in figures]
        if self.out:
            append_figures(self.out, figures, key, self.trained.step, self.ema)
        return figures


def _of_samples(metrics: Sequence[str]) -> list[str]:
    return [metric for metric in metrics if known_metrics()[metric].is_of_samples]
