"""Read what was given as a reference, or draw it, where it is a run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.core.io.array_archives import image_archive
from ddpm_cli.core.io.files import make_folder
from ddpm_cli.errors import RequestError
from ddpm_cli.evaluation.given.images import read_images
from ddpm_cli.evaluation.given.kinds import kind_at
from ddpm_cli.evaluation.given.reference import GivenReference, read_reference
from ddpm_cli.evaluation.references import references_folder
from ddpm_cli.metrics.registry import USUAL_SAMPLES
from ddpm_cli.results.events import EvaluateProgress, Event, Listener, Notice, SampleProgress
from ddpm_cli.sampling.bounds import Demand, require_affordable
from ddpm_cli.sampling.drawing import drawing_facts, with_learned_variance
from ddpm_cli.sampling.generate import load_model
from ddpm_cli.sampling.guide import find_guide, load_guide
from ddpm_cli.sampling.parallel import shared_samples
from ddpm_cli.sampling.stored_model import find_model
from ddpm_cli.sampling.trained_model import model_sha256

if TYPE_CHECKING:
    import torch

    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.core.compute.team import Team
    from ddpm_cli.data.scale import Scale
    from ddpm_cli.evaluation.settings import EvaluateSettings
    from ddpm_cli.sampling.trained_model import TrainedModel


def given_reference(
    path: Path, settings: EvaluateSettings, device: torch.device, team: Team, on_event: Listener, scale: Scale | None = None
) -> GivenReference:
    """Read images or statistics, or draw as many samples of a run as there are of what is measured.

    Args:
        path: What was given.
        settings: How to measure.
        device: Where to draw.
        team: The processes, which draw together.
        on_event: Told of progress.
        scale: See `read_images`.
    Raises:
        RequestError: If there is nothing of use.
    """
    if kind_at(path) == "model":
        return _of_run(path, settings, device, team, on_event)
    return read_reference(path, on_event, scale)


def _of_run(path: Path, settings: EvaluateSettings, device: torch.device, team: Team, on_event: Listener) -> GivenReference:
    """Samples of a run by its own sampler, kept in the cache; their seeds come after those of the samples that are measured."""
    found = find_model(path, on_event=on_event)
    sample = with_learned_variance(found.config, found.config.sample).model_copy(update={"batch_size": settings.batch_size})
    guide = find_guide(found, sample, on_event=on_event)
    trained = load_guide(load_model(found, device, on_event=on_event), guide, sample, on_event)
    if trained.image_shape[0] not in (1, 3):
        raise RequestError(
            f"{trained.origin} draws images of {trained.image_shape[0]} channels, and a reference has grey or RGB ones.",
            "Name another reference.",
        )
    n = settings.n or USUAL_SAMPLES
    first = settings.seed + settings.repeats * n
    require_affordable(trained, sample, Demand.of(trained, sample, n), settings.bounds, on_event)
    name = path.name
    seeds = f"{first} to {first + n - 1}"
    on_event(Notice(f"The reference: {n:,} samples of {trained.origin} by its own sampler, with the seeds {seeds}."))
    models = [model_sha256(trained), *([model_sha256(trained.guide.model)] if trained.guide else [])]
    facts = json.dumps([*models, drawing_facts(sample, trained.schedule.timesteps), first, n])
    kept = references_folder() / f"drawn-{n}-{hashlib.sha256(facts.encode()).hexdigest()[:24]}.npz"
    if any(team.largest(team.is_main and not kept.exists())):  # as the main one sees it, so that none draws without the others
        _draw(kept, trained, sample, range(first, first + n), team, on_event)
    if any(team.largest(not kept.exists())):
        raise RequestError(
            f"The samples of {trained.origin} lie in the cache of the main process's machine, where others do not see them.",
            "Let DDPM_CACHE name a folder that all machines share, or evaluate on one machine.",
        )
    images = read_images(kept, on_event)
    return GivenReference(path, replace(images, name=name, path=path), None)


def _draw(path: Path, trained: TrainedModel, sample: SampleConfig, seeds: range, team: Team, on_event: Listener) -> None:
    channels, height, width = trained.image_shape

    def listen(event: Event) -> None:
        if isinstance(event, SampleProgress):
            on_event(EvaluateProgress("reference samples", event.done, event.total, "denoising steps"))

    batches = shared_samples(team, trained, seeds, sample, on_event=listen)
    if team.is_main:
        make_folder(path.parent)
        with image_archive(path, len(seeds), (height, width, channels)) as archive:
            for batch in batches:
                archive.add(trained.scale.view(batch).permute(0, 2, 3, 1).numpy())
    else:
        for _ in batches:
            pass
    team.wait()
