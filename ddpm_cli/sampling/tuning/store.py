"""Keep what tuning found: in a run's tuned.json, and in the metadata of an exported file. Imports no torch.

Whoever made the file may be a stranger: what is no tuned sampler of this program is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ddpm_cli.config.schema.sample import ListSpacing, SampleConfig
from ddpm_cli.config.schema.section import Section
from ddpm_cli.core.io.files import UnreadableError, atomic_write, input_errors, read_json_object, to_json
from ddpm_cli.errors import RunError
from ddpm_cli.results.tuning import TunedSampler, Tuning
from ddpm_cli.runs.checkpoint_state import is_count
from ddpm_cli.runs.figures import finite
from ddpm_cli.runs.model_file import read_model_header
from ddpm_cli.runs.run_directory import RunDirectory
from ddpm_cli.sampling.stored import exported_facts
from ddpm_cli.sampling.tuning.search import LEAST_STEPS, MOST_STEPS

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import SamplerBase

TUNE_AGAIN = "Tune the run again: ddpm tune-sampler"
KEY = "tuning"
"""Of the facts in an exported file."""


def write_tuning(run: RunDirectory, tuning: Tuning) -> Tuning:
    """Store what was found for a run, beside what was found for other numbers of steps of the same weights in the same way.

    Returns:
        All that is stored now.
    Raises:
        OutputError: If it cannot be written.
    """
    before = _usable(run)
    if before is not None and _tuned_alike(before, tuning):
        renewed = {found.steps for found in tuning.samplers}
        samplers = [*(found for found in before.samplers if found.steps not in renewed), *tuning.samplers]
        tuning = replace(tuning, samplers=tuple(sorted(samplers, key=lambda found: found.steps)))
    atomic_write(run.tuned_path, to_json(tuning_json(tuning)))
    return tuning


def stored_steps(run: RunDirectory) -> set[int]:
    """List the numbers of steps that a run was tuned for; none if what is stored of them is damaged."""
    tuning = _usable(run)
    return set() if tuning is None else {found.steps for found in tuning.samplers}


def _usable(run: RunDirectory) -> Tuning | None:
    try:
        return read_tuning(run)
    except RunError:  # damaged, and replaced soon
        return None


def _tuned_alike(one: Tuning, other: Tuning) -> bool:
    names = ("step", "ema", "guidance", "threshold", "images", "held_out", "seed")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def tuning_json(tuning: Tuning) -> dict[str, Any]:
    """Write it as a JSON object."""
    return asdict(tuning)


def read_tuning(run: RunDirectory) -> Tuning | None:
    """Read what was found for a run; None if it was never tuned.

    Raises:
        RunError: If the file is damaged.
    """
    path = run.tuned_path
    if not path.exists():
        return None
    with input_errors(path, RunError, f"{TUNE_AGAIN} {run.shell_word}"):
        return tuning_of(read_json_object(path))


def find_tuning(origin: Path) -> Tuning | None:
    """Read what was found for the run that a checkpoint belongs to, or what an exported file holds; None if there is nothing.

    Args:
        origin: A checkpoint's folder, or the file.
    Raises:
        RunError: If it is damaged.
        CheckpointError: If the file is no exported one.
    """
    if origin.is_dir():
        run = RunDirectory(origin.parent.parent)
        return read_tuning(run) if run.info_path.is_file() else None
    if not origin.is_file():  # a model that was never stored
        return None
    return exported_tuning(origin, exported_facts(origin, read_model_header(origin).metadata))


def tuned_lists(origin: Path) -> list[str]:
    """Say in words what was found for a model, a solver and its list of steps each; nothing if it is damaged or there is none.

    Args:
        origin: See `find_tuning`.
    """
    try:
        tuning = find_tuning(origin)
    except RunError:
        return []
    samplers = [] if tuning is None else [found.sampler for found in tuning.samplers]
    return [f"{sampler['kind']} at {', '.join(map(str, sampler['spacing']['timesteps']))}" for sampler in samplers]


def exported_tuning(path: Path, facts: Mapping[str, Any]) -> Tuning | None:
    """Read what the facts of an exported file say; None if they say nothing.

    Raises:
        RunError: If that is damaged; `path` is what the message names.
    """
    if KEY not in facts:
        return None
    with input_errors(path, RunError, "Export the run again."):
        return tuning_of(facts[KEY])


def tuning_of(values: Any) -> Tuning:
    """Read a JSON object.

    Raises:
        UnreadableError: If it is no tuning.
    """
    try:
        samplers = tuple(map(_sampler_of, values["samplers"]))
        steps = [found.steps for found in samplers]
        sound = (
            all(is_count(values[name]) for name in ("step", "images", "held_out", "seed"))
            and isinstance(values["ema"], bool)
            and finite(values["created"]) is not None
            and 0 < len(steps) <= MOST_STEPS
            and sorted(set(steps)) == steps
        )
        settings = SampleConfig.model_validate({"guidance": values["guidance"], "threshold": values["threshold"]})
    except (KeyError, TypeError, ValidationError) as error:
        raise UnreadableError("holds no tuned samplers that this ddpm can use") from error
    if not sound:
        raise UnreadableError("holds no tuned samplers that this ddpm can use")
    named = {name: values[name] for name in ("step", "ema", "images", "held_out", "seed", "created")}
    return Tuning(guidance=values_of(settings.guidance), threshold=values_of(settings.threshold), samplers=samplers, **named)


def values_of(section: Section) -> dict[str, Any]:
    """Write what a section of the config says, as JSON values."""
    return section.model_dump(mode="json", exclude_none=True)


def _sampler_of(values: Any) -> TunedSampler:
    """Read one of them.

    Raises:
        KeyError, TypeError, ValidationError, UnreadableError: If it is none.
    """
    steps, distances = values["steps"], (values["distance"], values["untuned_distance"])
    sampler, untuned = sampler_of(values["sampler"]), sampler_of(values["untuned"])
    listed = sampler.spacing.timesteps if isinstance(sampler.spacing, ListSpacing) else None
    if not is_count(steps) or not LEAST_STEPS <= steps <= MOST_STEPS or listed is None or len(listed) != steps:
        raise UnreadableError("holds a tuned sampler without its steps")
    if not all(finite(distance) is not None and distance >= 0 for distance in distances):
        raise UnreadableError("holds a tuned sampler without its distance")
    return TunedSampler(steps, values_of(sampler), distances[0], values_of(untuned), distances[1])


def sampler_of(values: Mapping[str, Any]) -> SamplerBase:
    """Make the sampler that values of `[sample.sampler]` describe.

    Raises:
        ValidationError: If there is no such sampler.
    """
    return SampleConfig.model_validate({"sampler": values}).sampler


def staleness(tuning: Tuning, step: int, ema: bool) -> str:
    """Say for which other weights samplers were tuned than those of this step; nothing if for these."""
    tuned, used = _weights(tuning.step, tuning.ema), _weights(step, ema)
    return "" if tuned == used else f"tuned for {tuned}, and these are {used}"


def _weights(step: int, ema: bool) -> str:
    return f"the {'averaged' if ema else 'last'} weights of step {step:,}"
