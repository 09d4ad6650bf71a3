"""Figures of merit of a trained model: what was asked for, what is known already, and who measures the rest."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ddpm_cli.config.loader import override
from ddpm_cli.data.cache import cache_directory
from ddpm_cli.data.images import images_sha256
from ddpm_cli.engine.build import build_dataset, build_sampler
from ddpm_cli.engine.extractors import Extractors, require_logits
from ddpm_cli.engine.generate import load_trained
from ddpm_cli.engine.likelihood import LIKELIHOODS, check_likelihood, measure_likelihood
from ddpm_cli.engine.references import RealImages, Split, make_folder, no_held_out, real_images
from ddpm_cli.engine.sample_metrics import SAMPLE_METRICS, SampleMeasurement, require_enough
from ddpm_cli.engine.sample_parts import SampleSet, draw_parts, part_size
from ddpm_cli.engine.space import needed_bytes, require_space
from ddpm_cli.engine.team import Team
from ddpm_cli.engine.timestep_losses import loss_per_timestep
from ddpm_cli.engine.train import make_accelerator
from ddpm_cli.errors import DdpmError, RequestError
from ddpm_cli.events import Figure, Listener, Notice, ignore
from ddpm_cli.files import require_writable_folder
from ddpm_cli.runs.directory import RunDirectory, read_info
from ddpm_cli.runs.figures import append_figures, stored_figures
from ddpm_cli.runs.lock import locked

if TYPE_CHECKING:
    from ddpm_cli.config.schema import SampleConfig
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.diffusion.vlb import ModelVariance
    from ddpm_cli.engine.generate import TrainedModel
    from ddpm_cli.metrics.features import FeatureExtractor

PER_TIMESTEP = "loss-per-timestep"
HELD_OUT_METRICS = (*LIKELIHOODS, PER_TIMESTEP)
METRICS = (*SAMPLE_METRICS, *HELD_OUT_METRICS)
NEED_HELD_OUT = {*HELD_OUT_METRICS, "nearest"}
WORK = "work"
USUAL_N = dict.fromkeys(HELD_OUT_METRICS, 256) | dict.fromkeys(SAMPLE_METRICS, 1000)


@dataclass(frozen=True)
class EvaluateSettings:
    """How to measure.

    Attributes:
        n: Samples, or held-out images (the first of the test split) for likelihoods and the loss per timestep; None for 1,000
            samples and 256 held-out images.
        likelihood_steps: Network evaluations per image for bits-per-dim, None for all T; intervals of the ODE for nll-ode, None
            for 100.
        batch_size: Images at a time; another one draws other noise for likelihoods, and leaves samples as they are.
        seed: Of noise, steps and probes; sample i of set r has the seed `seed + r * n + i`.
        repeats: Independent sets of samples.
        variance: Of the reverse steps in bits-per-dim; None for the model's own.
        sample: Sampler, guidance and threshold; None for the model's own.
        reference: The split that samples are measured against.
        extractor_weights: File of the Inception network; None downloads it.
        fit_extractor: Train a classifier on the data where none is at hand for fcd and nearest.
    """

    n: int | None = None
    likelihood_steps: int | None = None
    batch_size: int = 64
    seed: int = 0
    repeats: int = 1
    variance: ModelVariance | None = None
    sample: SampleConfig | None = None
    reference: Split = "train"
    extractor_weights: Path | None = None
    fit_extractor: bool = False

    def n_of(self, metric: str) -> int:
        """Images that a metric is measured with."""
        return USUAL_N[metric] if self.n is None else self.n


@dataclass(frozen=True)
class Evaluation:
    """What came of evaluating a run.

    Attributes:
        figures: In the order of the metrics; none on processes other than the main one.
        trained: The model.
        folder: Where figures and pictures are kept; None for an exported file without a folder of its own.
    """

    figures: list[Figure]
    trained: TrainedModel
    folder: Path | None


def evaluate_run(
    path: Path | None,
    metrics: Sequence[str],
    settings: EvaluateSettings | None = None,
    *,
    runs: Path = Path("runs"),
    device: str = "auto",
    ema: bool = True,
    out: Path | None = None,
    sets: Sequence[str] = (),
    flags: Mapping[str, tuple[Any, str]] | None = None,
    on_event: Listener = ignore,
) -> Evaluation:
    """Measure a run, a checkpoint or an exported file on its own data; under `torchrun` all processes draw the samples.

    Args:
        path: See `load_trained`.
        metrics: Names out of METRICS.
        settings: How to measure.
        runs: The folder of runs.
        device: auto, cpu, cuda, cuda:N or mps.
        ema: Take the averaged weights.
        out: Folder for figures and pictures; `<run>/evaluations` if None, nothing for an exported file.
        sets: `sample.key=value` texts that change how the run samples.
        flags: The same by dotted key, each with (value, flag's name).
        on_event: Told of progress, notices and pictures.
    Raises:
        RequestError: If something asked for cannot be had; nothing was written then.
    """
    check_metrics(metrics)
    if out is not None:
        require_writable_folder(out)
    accelerator = make_accelerator(device, "fp32")
    team = Team.of(accelerator)
    on_event = on_event if team.is_main else ignore
    trained = load_trained(path, accelerator.device, ema=ema, runs=runs, on_event=on_event)
    settings = settings or EvaluateSettings()
    if sets or flags:
        settings = replace(settings, sample=override(trained.config, sets=sets, flags=flags).sample)
    dataset = build_dataset(trained.config.data, on_event)
    run = run_of(trained)
    for notice in [*dataset.notices, *_other_data(run, dataset)]:
        on_event(Notice(notice, important=True))
    folder = out or (run.evaluations_folder if run else None)
    return Evaluation(
        evaluate(trained, dataset, metrics, settings, out=folder, ema=ema, team=team, on_event=on_event), trained, folder
    )


def run_of(trained: TrainedModel) -> RunDirectory | None:
    """The run that a model's checkpoint lies in; None for an exported file, or a checkpoint that stands alone."""
    run = RunDirectory(trained.origin.parent.parent)
    return run if trained.origin.is_dir() and run.info_path.is_file() else None


def _other_data(run: RunDirectory | None, dataset: Dataset) -> list[str]:
    trained_on = (read_info(run).get("data") or {}).get("sha256") if run else None
    if trained_on in (None, dataset.sha256):
        return []
    return [f"{dataset.source} holds other training images than the model was trained on: the figures are against these."]


def check_metrics(metrics: Sequence[str]) -> None:
    """Refuse metrics that do not exist.

    Raises:
        RequestError: Naming the first of them.
    """
    for name in metrics:
        if name not in METRICS:
            raise RequestError(f"There is no metric {name!r}.", f"Metrics: {', '.join(METRICS)}.")


def evaluate(
    trained: TrainedModel,
    dataset: Dataset,
    metrics: Sequence[str],
    settings: EvaluateSettings | None = None,
    *,
    out: Path | None = None,
    ema: bool = True,
    team: Team | None = None,
    on_event: Listener = ignore,
) -> list[Figure]:
    """Measure a model.

    Figures that `out` holds already are taken from there. Samples are drawn by all processes, in parts that survive a kill; the
    main process does the rest.

    Args:
        trained: The model.
        dataset: Its data.
        metrics: Names out of METRICS.
        settings: How to measure.
        out: Folder that figures are appended to and pictures belong in; None keeps nothing.
        ema: Whether the weights are the averaged ones, to be stored with the figures.
        team: The processes.
        on_event: Told of progress, notices and pictures.
    Returns:
        One figure for each metric in their order, two for precision-recall; none on processes other than the main one.
    Raises:
        RequestError: If a metric is unknown, the images are of another size, the settings do not fit the model, or the disk or
            memory cannot hold what is asked for; nothing was written then.
    """
    check_metrics(metrics)
    settings, team = settings or EvaluateSettings(), team or Team()
    job = _Job(trained, dataset, settings, out, ema, team, on_event)
    job.check(metrics)
    keys = {metric: job.key(metric) for metric in metrics}
    known = {metric: stored_figures(out, keys[metric]) if out else [] for metric in metrics}
    missing = [metric for metric in metrics if not known[metric]]
    if len(missing) < len(metrics):
        names = ", ".join(metric for metric in metrics if known[metric])
        on_event(Notice(f"{names}: measured before with the same settings, taken from {out / 'figures.jsonl' if out else ''}."))
    if missing:
        known |= job.measure(missing, keys)
    return [figure for metric in metrics for figure in known[metric]] if team.is_main else []


@dataclass(frozen=True)
class _Job:
    """One call of `evaluate`."""

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
        trained, dataset, settings = self.trained, self.dataset, self.settings
        if dataset.image_shape != trained.image_shape:
            raise RequestError(
                f"The images of {dataset.name} have the shape {dataset.image_shape}, those of the model {trained.image_shape}.",
                "Name the model's own data set.",
            )
        of_samples = [metric for metric in metrics if metric in SAMPLE_METRICS]
        if len(dataset.test) == 0 and (set(metrics) & NEED_HELD_OUT or (of_samples and settings.reference == "test")):
            raise no_held_out(dataset)
        for metric in metrics:
            _require_positive(settings.n_of(metric), settings.repeats, settings.batch_size)
            if metric in LIKELIHOODS:
                check_likelihood(metric, trained.schedule, settings.likelihood_steps)
        for metric in of_samples:
            require_enough(metric, settings.n_of(metric))
        if of_samples:
            build_sampler(self.sample.sampler, trained.schedule)
            kinds = {SAMPLE_METRICS[metric].extractor for metric in of_samples}
            require_space(
                self.folder, *needed_bytes(metrics, kinds, settings.n_of(of_samples[0]), settings.repeats, trained.image_shape)
            )

    @cached_property
    def sample(self) -> SampleConfig:
        """How samples are drawn."""
        sample = self.settings.sample or self.trained.config.sample
        return sample.model_copy(update={"batch_size": self.settings.batch_size})

    @cached_property
    def extractors(self) -> Extractors:
        """The networks that look at images."""
        settings, device = self.settings, next(self.trained.network.parameters()).device
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
        """Of weights, schedule and what the network predicts: all of the model that a figure depends on."""
        digest = hashlib.sha256(json.dumps(self.trained.config.objective.model_dump(mode="json")).encode())
        digest.update(np.ascontiguousarray(self.trained.schedule.alphas_cumprod).tobytes())
        for name, weight in self.trained.network.state_dict().items():
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def folder(self) -> Path:
        """Where the work goes: beside the figures, or in the cache where none are kept."""
        return self.out or cache_directory() / "evaluations" / self.model_sha256[:24]

    def real(self, split: Split) -> RealImages | None:
        """All images of a split; None if it has none."""
        if len(self.dataset.train if split == "train" else self.dataset.test) == 0:
            return None
        return real_images(self.dataset, split, self.settings.batch_size, self.on_event)

    # ----------------------------------------------------------------------------------------------------------- what is known

    def key(self, metric: str) -> str:
        """Of all that the figures of a metric depend on."""
        settings = self.settings
        facts = [metric, self.model_sha256, settings.n_of(metric), settings.seed, *self._splits]
        if metric in SAMPLE_METRICS:
            facts += [self._drawing, settings.repeats, settings.reference, self._extractor(metric).sha256]
        else:
            facts += [settings.batch_size, self.trained.config.sample.threshold.model_dump(mode="json")]
        if metric in LIKELIHOODS:
            facts += [settings.likelihood_steps, settings.variance]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @cached_property
    def _splits(self) -> list[str]:
        return [self.dataset.sha256, images_sha256(self.dataset.test.images)]

    @cached_property
    def _drawing(self) -> dict[str, Any]:
        """What samples depend on besides the model and their seeds."""
        return self.sample.model_dump(mode="json", include={"sampler", "guidance", "threshold"})

    def _extractor(self, metric: str) -> FeatureExtractor:
        extractor = self.extractors.of(SAMPLE_METRICS[metric].extractor)
        if metric == "inception-score":
            require_logits(extractor, self.trained.image_shape)
        return extractor

    # -------------------------------------------------------------------------------------------------------------- measuring

    def measure(self, metrics: Sequence[str], keys: Mapping[str, str]) -> dict[str, list[Figure]]:
        """The figures of each metric, stored under its key; empty on processes other than the main one."""
        of_samples = [metric for metric in metrics if metric in SAMPLE_METRICS]
        if self.out or of_samples:
            make_folder(self.folder)
        busy = self.team.is_main and (self.out or of_samples)
        with locked(RunDirectory(self.folder)) if busy else nullcontext():
            sets = self._sample_sets(of_samples) if of_samples else []
            if sets:
                extractors = {self._extractor(metric) for metric in of_samples}
                draw_parts(sets, self.trained, self.sample, list(extractors), self.team, self.on_event)
            self.team.wait()
            if not self.team.is_main:
                return {}
            found = {metric: self._store(self._measured(metric, sets), keys[metric]) for metric in metrics}
            _remove(sets)
            return found

    def _sample_sets(self, of_samples: Sequence[str]) -> list[SampleSet]:
        settings, size = self.settings, part_size(self.settings.batch_size)
        n = settings.n_of(of_samples[0])
        facts = json.dumps([self.model_sha256, self._drawing, size])
        work = self.folder / WORK / hashlib.sha256(facts.encode()).hexdigest()[:24]
        firsts = [settings.seed + number * n for number in range(settings.repeats)]
        sets = [SampleSet(work / f"{first}-{n}", range(first, first + n), size) for first in firsts]
        for samples in sets:
            make_folder(samples.folder)
        return sets

    def _measured(self, metric: str, sets: Sequence[SampleSet]) -> list[Figure]:
        if metric in LIKELIHOODS:
            return [measure_likelihood(self.trained, self.dataset, metric, self.settings, self.on_event)]
        if metric == PER_TIMESTEP:
            return [loss_per_timestep(self.trained, self.dataset, self.settings, self.out, self.on_event)]
        reference: Split = "train" if metric == "nearest" else self.settings.reference
        known, other = self.real(reference), self.real("test" if reference == "train" else "train")
        assert known is not None  # check has seen to it
        measurement = SampleMeasurement(sets, known, other, self.sample, self.trained.schedule.timesteps, self.out, self.on_event)
        return measurement.figures(metric, self._extractor(metric))

    def _store(self, figures: list[Figure], key: str) -> list[Figure]:
        for figure in figures:
            if not math.isfinite(figure.value):
                raise DdpmError(
                    f"{figure.metric} is not a finite number.", "Look at the model's samples: its training may have diverged."
                )
        if self.out:
            append_figures(self.out, figures, key, self.trained.step, self.ema)
        return figures


def _require_positive(n: int, repeats: int, batch_size: int) -> None:
    for name, value in (("n", n), ("repeats", repeats), ("batch_size", batch_size)):
        if value < 1:
            raise RequestError(f"{name} must be at least 1, not {value}.", "Give a positive number.")


def _remove(sets: Sequence[SampleSet]) -> None:
    """Remove the work that went into figures, and the folders above it that hold no other."""
    for samples in sets:
        shutil.rmtree(samples.folder, ignore_errors=True)
        for folder in (samples.folder.parent, samples.folder.parent.parent):
            with suppress(OSError):
                folder.rmdir()
