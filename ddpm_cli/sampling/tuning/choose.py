"""Choose the sampler that was tuned for a model, and say where it was tuned for something else. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.core.io.paths import shell_word
from ddpm_cli.errors import RequestError
from ddpm_cli.results.events import Notice
from ddpm_cli.sampling.tuning.store import find_tuning, sampler_of, staleness, values_of

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import SampleConfig, SamplerBase
    from ddpm_cli.results.tuning import Tuning
    from ddpm_cli.sampling.stored_model import StoredModel
    from ddpm_cli.sampling.trained_model import TrainedModel


def tuned_sampler(origin: Path, steps: int | None, spelt: Callable[[str], str]) -> tuple[Tuning, SamplerBase]:
    """Take the sampler that was tuned for a model in so many steps, the most if None.

    Args:
        origin: See `find_tuning`.
        steps: How many.
        spelt: Spells the name of an argument as the user knows it.
    Raises:
        RequestError: If none was tuned.
        RunError: If what is stored of it is damaged.
    """
    tuning = find_tuning(origin)
    if tuning is None:
        remedy = f"Tune it first: ddpm tune-sampler {shell_word(origin)}"
        if origin.is_file():
            remedy = "Tune the run it came from, and export that again: ddpm tune-sampler RUN"
        raise RequestError(f"No sampler was tuned for {origin}.", remedy)
    by_steps = {found.steps: found for found in tuning.samplers}
    found = by_steps.get(max(by_steps) if steps is None else steps)
    if found is None:
        there = ", ".join(map(str, by_steps))
        tuned = "" if origin.is_file() else f", or tune it: ddpm tune-sampler {shell_word(origin)} --steps {steps}"
        remedy = f"Take one of {there}{tuned}"
        raise RequestError(f"No sampler of {steps} steps was tuned for {origin} ({spelt('steps')}).", remedy)
    return tuning, sampler_of(found.sampler)


def tuning_notices(tuning: Tuning, model: StoredModel | TrainedModel, settings: SampleConfig) -> Iterator[Notice]:
    """Say that other weights, guidance or threshold are used than those that a sampler was tuned for."""
    if stale := staleness(tuning, model.step, model.ema):
        yield Notice(f"The sampler was {stale}. It works, but others may be closer by now: ddpm tune-sampler", important=True)
    for name in ("guidance", "threshold"):
        if values_of(getattr(settings, name)) != getattr(tuning, name):
            yield Notice(f"The sampler was tuned with another {name} (sample.{name}). It works, but others may be closer.")
    if settings.guide.model is not None:
        yield Notice("The sampler was tuned without a guide (sample.guide). It works, but others may be closer.")
