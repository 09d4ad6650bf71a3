"""Measure figures of merit of a trained model: what was asked for, what is known already, and who measures the rest.

What is wrong with a request is found before torch is imported, as far as that can be: heavy imports stay inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.build.data import build_dataset
from ddpm_cli.core.asking import as_option
from ddpm_cli.core.compute.device import check_device
from ddpm_cli.core.launch import is_main
from ddpm_cli.errors import RequestError
from ddpm_cli.evaluation.check import check_effects, check_metrics, check_numbers, check_outputs, check_sets, require_of_sampling
from ddpm_cli.evaluation.given.asking import check_given, data_of, require_reference
from ddpm_cli.evaluation.given.kinds import is_given
from ddpm_cli.evaluation.settings import EvaluateSettings, Measuring, read_request
from ddpm_cli.metrics.registry import known_metrics
from ddpm_cli.results.events import Listener, Notice, ignore
from ddpm_cli.results.figure import Figure
from ddpm_cli.runs.directory import checked_run, read_info
from ddpm_cli.runs.figures import stored_figures
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.file_bounds import USUAL, Bounds
from ddpm_cli.sampling.guide import find_guide, load_guide
from ddpm_cli.sampling.request import settings_of
from ddpm_cli.sampling.stored import require_data
from ddpm_cli.sampling.stored_model import find_model

if TYPE_CHECKING:
    from ddpm_cli.core.compute.team import Team
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.evaluation.given.images import GivenImages
    from ddpm_cli.sampling.trained_model import TrainedModel


@dataclass(frozen=True)
class Evaluation:
    """Hold what came of evaluating a run, or images that were given.

    Attributes:
        figures: In the order of the metrics; none on processes other than the main one.
        measured: The model, or the images.
        folder: Where figures and pictures are kept; None for what has no folder of its own.
        statistics: Where the statistics of the reference were written; None if they were not asked for.
    """

    figures: list[Figure]
    measured: TrainedModel | GivenImages
    folder: Path | None
    statistics: Path | None = None


def evaluate_run(
    path: Path | None,
    metrics: Sequence[str],
    asked: Measuring | None = None,
    *,
    runs: Path = Path("runs"),
    device: str = "auto",
    ema: bool = True,
    out: Path | None = None,
    data: str | None = None,
    write_statistics: Path | None = None,
    sets: Sequence[str] = (),
    bounds: Bounds = USUAL,
    spelt: Callable[[str], str] = as_option,
    on_event: Listener = ignore,
) -> Evaluation:
    """Measure a run, a checkpoint or an exported file on its own data; under `torchrun` all processes draw the samples.

    A folder of pictures that is no run, or an .npz or .npy file, is measured as it is, see `evaluation/given/`.

    Args:
        path: See `load_trained`; or images.
        metrics: Names, see `known_metrics`.
        asked: What is not measured as usual.
        runs: The folder of runs.
        device: auto, cpu, cuda, cuda:N or mps.
        ema: Take the averaged weights.
        out: Folder for figures and pictures; `<run>/evaluations` if None, nothing for an exported file and for images.
        data: What given images are measured against, as `--data` names it; a model has its own.
        write_statistics: File for mean and covariance of what fid is measured against; None for none.
        sets: `sample.key=value` texts that change how the run samples; for images, `data.key=value` texts.
        bounds: On what the model may ask for.
        spelt: See `checked`.
        on_event: Told of progress, notices and pictures.
    Raises:
        RequestError: If something asked for cannot be had; nothing was written then.
    """
    asked = asked or {}
    settings, drawing = read_request(asked, spelt)
    settings = replace(settings, bounds=bounds)
    if not metrics:
        raise RequestError("There is no metric to measure.", f"Name one or more: {', '.join(known_metrics())}.")
    check_metrics(metrics)
    check_effects(metrics, asked, spelt)
    if isinstance(settings.reference, Path):
        settings = replace(settings, reference=require_reference(settings.reference, spelt, runs))
    check_outputs(metrics, out, write_statistics, spelt)
    check_device(device)
    on_event = on_event if is_main() else ignore
    if path is not None and is_given(path, runs):
        check_given(path, metrics, asked, spelt, ema=ema)
        return _evaluate_given(path, metrics, settings, data, sets, device, out, write_statistics, spelt, on_event)
    if data is not None:
        raise RequestError(
            f"{spelt('data')} {data} has no place beside a model, which is measured on the data that it was trained on.",
            f"Give {spelt('reference')} to measure its samples against other images.",
        )
    require_of_sampling(sets)
    check_sets(sets)
    check_numbers(metrics, settings, spelt)
    found = find_model(path, ema=ema, runs=runs, on_event=on_event)
    if sets or drawing:
        settings = replace(settings, sample=settings_of(found, drawing, sets, spelt, on_event=on_event))
    guide = find_guide(found, settings.sample, spelt, on_event) if settings.sample else None
    require_data(found.config, found.origin)

    from ddpm_cli.core.compute.team import Team, make_accelerator
    from ddpm_cli.sampling.generate import load_model

    accelerator = make_accelerator(device, "fp32")
    team = Team.of(accelerator)
    trained = load_model(found, accelerator.device, on_event=on_event)
    if settings.sample:
        trained = load_guide(trained, guide, settings.sample, on_event)
    dataset = build_dataset(found.config.data, on_event, trained_on=True)
    run = run_of(trained)
    for notice in [*dataset.notices, *_other_data(run, dataset)]:
        on_event(Notice(notice, important=True))
    folder = out or (run.evaluations_folder if run else None)
    with team.watched():
        figures = evaluate(
            trained,
            dataset,
            metrics,
            settings,
            out=folder,
            write_statistics=write_statistics,
            ema=ema,
            team=team,
            on_event=on_event,
        )
    return Evaluation(figures, trained, folder, write_statistics)


def _evaluate_given(
    path: Path,
    metrics: Sequence[str],
    settings: EvaluateSettings,
    data: str | None,
    sets: Sequence[str],
    device: str,
    out: Path | None,
    write_statistics: Path | None,
    spelt: Callable[[str], str],
    on_event: Listener,
) -> Evaluation:
    """Measure a folder or file of images; the main process does it alone, as there is nothing to draw."""
    config = data_of(data, sets, spelt)

    from ddpm_cli.core.compute.device import resolve_device
    from ddpm_cli.core.compute.out_of_memory import measuring_error, out_of_memory
    from ddpm_cli.evaluation.given.images import read_images
    from ddpm_cli.evaluation.given.measure import GivenJob

    dataset = build_dataset(config, on_event) if config else None
    images = read_images(path, on_event, dataset.scale if dataset else None)
    images = images if settings.n is None else images.first(settings.n)
    on_event(Notice(f"Evaluating {images.count:,} images of {path}."))
    for notice in dataset.notices if dataset else ():
        on_event(Notice(notice, important=True))
    if not is_main():
        return Evaluation([], images, out, write_statistics)
    torch_device = resolve_device(device)
    job = GivenJob(images, dataset, replace(settings, n=images.count), out, torch_device, on_event)
    with out_of_memory(lambda: measuring_error(settings.batch_size, torch_device)):
        job.check(metrics)
        figures = job.figures(metrics)
        if write_statistics is not None:
            job.save_statistics(write_statistics)
    return Evaluation(figures, images, out, write_statistics)


def run_of(trained: TrainedModel) -> RunDirectory | None:
    """Find the run that a model's checkpoint, or its average that `ddpm ema` made, lies in; None for what stands alone.

    Raises:
        RunError: If a folder in the run is a symbolic link.
    """
    run = RunDirectory(trained.origin.parent.parent)
    lies_in_it = trained.origin.is_dir() or trained.origin.parent.name == run.averages_folder.name
    return checked_run(run) if lies_in_it and run.info_path.is_file() else None


def _other_data(run: RunDirectory | None, dataset: Dataset) -> list[str]:
    data = read_info(run).get("data") if run else None
    trained_on = data.get("sha256") if isinstance(data, dict) else None
    if trained_on in (None, dataset.sha256):
        return []
    return [f"{dataset.source} holds other training images than the model was trained on: the figures are against these."]


def evaluate(
    trained: TrainedModel,
    dataset: Dataset,
    metrics: Sequence[str],
    settings: EvaluateSettings | None = None,
    *,
    out: Path | None = None,
    write_statistics: Path | None = None,
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
        metrics: Names, see `known_metrics`.
        settings: How to measure.
        out: Folder that figures are appended to and pictures belong in; None keeps nothing.
        write_statistics: File for mean and covariance of what fid is measured against; None for none.
        ema: Whether the weights are the averaged ones, to be stored with the figures.
        team: The processes.
        on_event: Told of progress, notices and pictures.
    Returns:
        One figure for each metric in their order, two for precision-recall; none on processes other than the main one.
    Raises:
        RequestError: If a metric is unknown, the images are of another size, the settings do not fit the model, or the disk or
            memory cannot hold what is asked for; nothing was written then.
        OutOfMemoryError: If the memory does not suffice; parts that are done are kept.
    """
    from ddpm_cli.core.compute.out_of_memory import measuring_error, out_of_memory
    from ddpm_cli.core.compute.team import Team
    from ddpm_cli.evaluation.job import Job

    check_metrics(metrics)
    settings, team = settings or EvaluateSettings(), team or Team()
    job = Job(trained, dataset, settings, out, ema, team, on_event)
    job.check(metrics)
    keys = {metric: job.key(metric) for metric in metrics}
    known = {metric: stored_figures(out, keys[metric]) if out else [] for metric in metrics}
    missing = [metric for metric in metrics if not known[metric]]
    weights = "EMA" if ema else "last"
    on_event(Notice(f"Evaluating {trained.origin} (step {trained.step:,}, {weights} weights)."))
    if len(missing) < len(metrics):
        names = ", ".join(metric for metric in metrics if known[metric])
        on_event(Notice(f"{names}: measured before with the same settings, taken from {out / 'figures.jsonl' if out else ''}."))
    if missing:
        with out_of_memory(lambda: measuring_error(settings.batch_size, trained.device)):
            known |= job.measure(missing, keys)
    if write_statistics is not None and team.is_main:
        job.save_statistics(write_statistics)
    return [figure for metric in metrics for figure in known[metric]] if team.is_main else []
