"""Find the weaker model that samples are led away from, and say where it cannot guide. Imports no torch until it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_cli.core.asking import as_option
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.errors import CheckpointError, RequestError, RunError
from ddpm_cli.results.events import Listener, Notice, ignore
from ddpm_cli.runs.checkpoints import list_checkpoints, step_of
from ddpm_cli.runs.directory import find_run
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.stored_model import find_model

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.sampling.stored_model import StoredModel
    from ddpm_cli.sampling.trained_model import TrainedModel

AT = "@"
Spelt = Callable[[str], str]


def find_guide(
    model: StoredModel | TrainedModel, settings: SampleConfig, spelt: Spelt = as_option, on_event: Listener = ignore
) -> StoredModel | None:
    """Find the guide that settings name, by its averaged weights, and read all of it but these.

    Args:
        model: The model that is to be guided.
        settings: Of sampling.
        spelt: Spells the name of an argument as the user knows it.
        on_event: Told of damaged checkpoints that were passed over.
    Returns:
        The guide; None if none is named.
    Raises:
        RunError: If there is no such run or step.
        CheckpointError: If it is damaged.
        RequestError: If it is the model itself, or its images or classes are others than the model's.
    """
    named = settings.guide.model
    if named is None:
        return None
    option = spelt("guide_with")
    guide = find_model(_place(named, model, option), runs=model.runs, on_event=on_event)
    if model.ema and guide.origin.resolve() == model.origin.resolve():
        message = f"{option} {named} is the model itself, from which nothing can be told apart."
        raise RequestError(message, _another(guide.origin, model))
    if guide.image_shape != model.image_shape:
        sizes = [f"{height}x{width}x{channels}" for channels, height, width in (guide.image_shape, model.image_shape)]
        message = f"{option} {named} makes images of {sizes[0]}, and {model.origin} of {sizes[1]}."
        raise RequestError(message, "Name a run, or an earlier checkpoint, whose images have the same shape.")
    if guide.scale != model.scale:
        message = f"{option} {named} has pixels from {guide.scale}, and {model.origin} from {model.scale}."
        raise RequestError(message, "Name a run of the same data and range.")
    _require_classes(guide, model, f"{option} {named}")
    return guide


def load_guide(
    trained: TrainedModel, guide: StoredModel | None, settings: SampleConfig, on_event: Listener = ignore
) -> TrainedModel:
    """Load a guide beside the model that it guides.

    Args:
        trained: The model.
        guide: See `find_guide`.
        settings: Of sampling.
        on_event: Told if the guide's schedule does not reach all levels of noise that are visited.
    Returns:
        The model with its guide; as it was if there is none.
    Raises:
        RequestError: If the guide's schedule reaches none of these levels.
        CheckpointError: If it is damaged.
    """
    if guide is None:
        return trained
    from ddpm_cli.diffusion.guidance import reaches
    from ddpm_cli.sampling.generate import load_model
    from ddpm_cli.sampling.trained_model import Guide

    loaded = Guide(load_model(guide, trained.device, on_event=on_event), guide_name(guide.origin, guide.step, trained.origin))
    with_guide = replace(trained, guide=loaded)
    if with_guide.schedule_of_guide is not None:
        _, levels = settings.prepare(trained.schedule)
        missed = sum(not reaches(loaded.model.schedule, level) for level in levels)
        if missed == len(levels):
            raise RequestError(
                f"The noise schedule of the guide {guide.origin} has none of the {missed} levels of noise that are visited.",
                "Name a guide whose schedule overlaps with the model's; `ddpm inspect-schedule --run` shows both.",
            )
        if missed:
            on_event(
                Notice(
                    f"The noise schedule of the guide {guide.origin} does not reach {missed} of the {len(levels)} levels of noise "
                    "that are visited; no guidance there."
                )
            )
    return with_guide


def guided_model(
    trained: TrainedModel, settings: SampleConfig, spelt: Spelt = as_option, on_event: Listener = ignore
) -> TrainedModel:
    """Find and load the guide that settings name, for a model that is loaded already; see `find_guide` and `load_guide`."""
    return load_guide(trained, find_guide(trained, settings, spelt, on_event), settings, on_event)


def guide_facts(guide: StoredModel, settings: SampleConfig) -> dict[str, Any]:
    """List what `--json` says of a guide."""
    return {"model": guide.origin, "step": guide.step, "scale": settings.guide.scale, "interval": settings.guide.interval}


def guide_name(origin: Path, step: int, of: Path) -> str:
    """Name a guide as what was measured with it tells: @STEP of the model's own run, RUN@STEP, or the file."""
    if not origin.is_dir():
        return origin.name
    run = origin.parent.parent
    own = of.is_dir() and run.resolve() == of.parent.parent.resolve()
    return f"{'' if own else RunDirectory(run).name}{AT}{step}"


def _place(named: str, model: StoredModel | TrainedModel, option: str) -> Path:
    """The path that find_model takes."""
    path = user_path(named, option)
    run_name, at, step = named.rpartition(AT)
    if not at or path.exists() or (model.runs / named).is_dir():
        return path
    if not (step.isascii() and step.isdigit()):
        raise RunError(f"{option} {named}: {step!r} is no step.", "Write RUN@STEP, or @STEP for a step of the model's own run.")
    run = find_run(model.runs, run_name) if run_name else _own_run(model, option)
    found = {step_of(path): path for path in list_checkpoints(run)}
    if int(step) not in found:
        there = ", ".join(map(str, found)) or "none"
        raise CheckpointError(
            f"{option} {named}: {run.path} has no checkpoint of step {int(step)}.",
            f"There are: {there}. Which are kept, checkpoint.every and checkpoint.keep_last of a training say.",
        )
    return found[int(step)]


def _own_run(model: StoredModel | TrainedModel, option: str) -> RunDirectory:
    run = RunDirectory(model.origin.parent.parent)
    if not (model.origin.is_dir() and run.info_path.is_file()):
        raise RunError(f"{model.origin} belongs to no run, whose steps {option} could name.", "Write RUN@STEP.")
    return run


def _another(origin: Path, model: StoredModel | TrainedModel) -> str:
    """What else could guide: an earlier checkpoint, where there is one."""
    others = [step_of(path) for path in list_checkpoints(RunDirectory(origin.parent.parent)) if step_of(path) < model.step]
    if not origin.is_dir() or not others:
        return "Name another run, or train with more checkpoints (checkpoint.every, checkpoint.keep_last)."
    return f"Name an earlier checkpoint: {', '.join(f'{AT}{step}' for step in others)}."


def _require_classes(guide: StoredModel, model: StoredModel | TrainedModel, named: str) -> None:
    if guide.num_classes is None:
        return
    if model.num_classes is None:
        if guide.config.objective.label_dropout:
            return
        message = f"{named} has only learned images of a class, and {model.origin} knows no classes."
        raise RequestError(message, "Name a guide that was trained without classes, or with objective.label_dropout above 0.")
    if (guide.num_classes, guide.class_names) != (model.num_classes, model.class_names):
        message = f"{named} was trained with other classes than {model.origin}."
        raise RequestError(message, "Name a guide of the same classes, or of none.")
