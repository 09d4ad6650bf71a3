"""Prepare the first weights of a run that starts from a trained model, and say which they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ddpm_cli.build.network import build_network
from ddpm_cli.config.schema.objective import ConsistencyLoss
from ddpm_cli.config.schema.schedule import LearnedSchedule
from ddpm_cli.core.io.files import printable
from ddpm_cli.core.io.paths import path_text
from ddpm_cli.core.io.tensor_files import content_sha256
from ddpm_cli.core.wording import counted, first_few
from ddpm_cli.errors import ConfigError, RequestError, RunError
from ddpm_cli.models.base import freeze
from ddpm_cli.results.events import Listener, Notice
from ddpm_cli.results.start import StartReport
from ddpm_cli.runs.directory import read_info
from ddpm_cli.sampling.stored_model import StoredModel
from ddpm_cli.training.distillation.teacher import require_whole
from ddpm_cli.training.start.source import Source, Weights, find_source, read_source
from ddpm_cli.training.start.transfer import Transfer, plan_transfer

if TYPE_CHECKING:
    from torch import nn

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.diffusion.objectives.learned_schedule import ScheduleLearner
    from ddpm_cli.runs.run_directory import RunDirectory

START = "start"
"""In run.json: what the run took from a trained model."""
OF_SCHEDULE = "schedule."
NOT_LEARNED = "only one of them learns its schedule"


@dataclass(frozen=True)
class Start:
    """Hold trained weights that fit the network of a new run.

    Attributes:
        weights: All that the source has.
        transfer: Which of them are taken, and how.
        report: What there is to tell of it.
    """

    weights: Weights
    transfer: Transfer
    report: StartReport

    def put_into(self, network: nn.Module, learner: ScheduleLearner | None) -> None:
        """Replace random weights of a new network, and of a learned schedule, by those that are taken."""
        network.load_state_dict(self.transfer.weights(self.weights.network, network.state_dict()))
        if learner is not None and self.weights.schedule:
            learner.gamma.load_state_dict(self.weights.schedule)
            learner.refresh()


def prepare_start(config: Config, dataset: Dataset, source: Source, on_event: Listener) -> Start:
    """Read the weights of a source, and find which of them fit.

    Args:
        config: Of the new run, resolved.
        dataset: Its data.
        source: Of the weights.
        on_event: Told what is taken, what is new, and what is left.
    Raises:
        RequestError: If they are damaged, or none of them fits.
        ConfigError: If what is to be frozen is not there, or is new.
    """
    weights = read_source(source)
    with torch.device("meta"):
        before = build_network(source.config, source.image_shape)
        after = build_network(config, dataset.image_shape)
    names = dataset.train.class_names if config.model.num_classes else ()
    transfer = plan_transfer(before, after, source.class_names, names)
    shapes = {name: value.shape for name, value in after.state_dict().items()}
    if isinstance(config.objective.loss, ConsistencyLoss):
        require_whole(config, source, dataset.image_shape, dataset.scale, transfer)
    if not any(len(shapes[name]) > 1 for name in transfer.fits):
        raise RequestError(
            f"Nothing of {weights.source.origin} fits: no convolution and no matrix of the new network has the shape of one there.",
            "Take over its network: leave out --preset and model.*, or train without --from (start.weights).",
        )
    frozen = tuple(freeze(after, config.start.freeze)) if config.start.freeze else ()
    if made := [name for name in frozen if name not in transfer.fits]:
        raise ConfigError(
            f"start.freeze = {config.start.freeze} would keep weights as they are that are new: {first_few(made)}.",
            "Freeze fewer blocks, or take over the source's network: leave out --preset and model.*",
        )
    _note_schedule(transfer, weights, config)
    report = _report(weights, transfer, {name: shape.numel() for name, shape in shapes.items()}, frozen)
    for notice in _notices(report, weights.source, config, dataset):
        on_event(notice)
    return Start(weights, transfer, report)


def start_again(config: Config, dataset: Dataset, run: RunDirectory, on_event: Listener) -> Start | None:
    """Prepare the first weights of a run once more, which was stopped before its first checkpoint; None if they are random.

    Raises:
        RunError: If its source holds other weights by now.
    """
    if config.start.weights is None:
        return None
    try:
        source = find_source(config.start.weights)
    except RequestError as error:
        raise RunError(
            f"{run.path} has no checkpoint to go on from, and what it was started from cannot be read any more: {error.message}",
            "Start a new run.",
        ) from error
    start = prepare_start(config, dataset, source, on_event)
    said = read_info(run).get(START)
    if not isinstance(said, dict) or said.get("sha256") != start.report.sha256:
        raise RunError(
            f"{config.start.weights} holds other weights by now than {run.path} was started from.",
            "Start a new run: it has no checkpoint to go on from.",
        )
    return start


def _note_schedule(transfer: Transfer, weights: Weights, config: Config) -> None:
    learns = isinstance(config.schedule, LearnedSchedule)
    if learns and not weights.schedule:
        transfer.new[f"{OF_SCHEDULE}*"] = NOT_LEARNED
    elif not learns:
        transfer.left |= {f"{OF_SCHEDULE}{name}": NOT_LEARNED for name in weights.schedule}


def _report(weights: Weights, transfer: Transfer, numbers: dict[str, int], frozen: tuple[str, ...]) -> StartReport:
    source = weights.source
    everything = {**weights.network, **{f"{OF_SCHEDULE}{name}": weight for name, weight in weights.schedule.items()}}
    return StartReport(
        weights=path_text(source.path),
        origin=path_text(source.origin),
        step=source.step,
        sha256=content_sha256({name: weight.contiguous() for name, weight in everything.items()}, {}),
        taken=transfer.taken,
        adapted=transfer.adapted,
        new={printable(name): why for name, why in transfer.new.items()},
        left={printable(name): why for name, why in transfer.left.items()},
        taken_numbers=round(sum(numbers[name] * transfer.shares.get(name, 1.0) for name in transfer.fits)),
        numbers=sum(numbers.values()),
        frozen=frozen,
    )


def _notices(report: StartReport, source: Source, config: Config, dataset: Dataset) -> Iterator[Notice]:
    """Say in a few lines what run.json lists."""
    adapted = [f"{name} ({how})" for name, how in report.adapted.items()]
    yield Notice(
        f"Starts from {source.called}. {counted(len(report.taken), 'tensor')} as they are"
        + (f", {len(adapted)} adapted: {first_few(adapted)}." if adapted else ".")
    )
    for what, names in (("New, with random weights", report.new), ("Not taken", report.left)):
        if names:
            yield Notice(f"{what}: {first_few(list(names))}. run.json says why.", important=True)
    was, now = (one.objective.parameterization.kind for one in (source.config, config))
    if was != now:
        yield Notice(f"The source predicts {was}, and this run {now}: its last layers have to learn anew.", important=True)
    if isinstance(source.stored, StoredModel) and source.stored.scale != dataset.scale:
        yield Notice(
            f"Pixels of the source are {source.stored.scale}, of this run {dataset.scale}: both are -1 to 1 to the network.",
            important=True,
        )
