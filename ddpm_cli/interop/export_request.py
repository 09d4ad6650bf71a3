"""Check what is asked of an export before anything heavy is imported."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.core.asking import as_option
from ddpm_cli.core.extras import require_packages
from ddpm_cli.core.io.files import require_new_folder, require_writable_parent
from ddpm_cli.core.names import nearest
from ddpm_cli.errors import RequestError
from ddpm_cli.interop.registry import UNKNOWN_LICENSE, ExportOptions, formats_with, known_formats

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.config.schema.sample import DdimSampler

_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,49}")


def check_request(kind: str, out: Path, options: ExportOptions, spelt: Callable[[str], str] = as_option) -> None:
    """Refuse what cannot be done, before a model is loaded.

    Args:
        kind: Name of a format.
        out: What is to be written.
        options: How.
        spelt: Spells the name of an argument as the user knows it; an option of a command if left out.

    Raises:
        RequestError: For an unknown format, options of another one, or a license that is no name.
        OutputError: If nothing can be written there.
    """
    formats = known_formats()
    if kind not in formats:
        others = {other: name for name, format in formats.items() for other in format.other_names}
        raise RequestError(
            f"There is no export format {kind!r}; {nearest(kind, formats, others)}.", f"Formats: {', '.join(formats)}."
        )
    chosen = formats[kind]
    if options.with_sampler and "with_sampler" not in chosen.options:
        takes = formats_with("with_sampler")
        raise RequestError(f"{spelt('with_sampler')} is for the format {takes}, not {kind}.", _format_with(takes, spelt))
    if options.steps is not None and not options.with_sampler:
        takes, sampler = formats_with("with_sampler"), spelt("with_sampler")
        raise RequestError(f"{spelt('steps')} is for {sampler}.", f"Add {spelt('format')} {takes} and {sampler}, or leave it out.")
    if options.license_name != UNKNOWN_LICENSE and "license" not in chosen.options:
        takes = formats_with("license")
        raise RequestError(
            f"{spelt('license')} is for the model card of the format {takes}, not {kind}.", _format_with(takes, spelt)
        )
    if options.tuned is not None and "tuned" not in chosen.options:
        takes = formats_with("tuned")
        raise RequestError(f"{spelt('tuned')} is for the format {takes}, not {kind}.", _format_with(takes, spelt))
    if options.half and "half" not in chosen.options:
        raise RequestError(f"{spelt('half')} is not for the format {kind}.", "Leave it out.")
    if not _LICENSE.fullmatch(options.license_name):
        raise RequestError(
            f"{options.license_name!r} cannot be the name of a licence.", "Use a short one, such as mit or cc-by-4.0."
        )
    (require_new_folder if chosen.is_folder else require_writable_parent)(out)
    require_packages(f"The format {kind}", chosen.extra, *chosen.packages)


def _format_with(format: str, spelt: Callable[[str], str]) -> str:
    return f"Add {spelt('format')} {format}, or leave it out."


def ddim_of(config: Config, steps: int | None, spelt: Callable[[str], str] = as_option) -> DdimSampler:
    """Take a run's own DDIM, or the usual one, with so many steps, for a graph that holds it.

    A consistency model takes one step, which is that of its own sampler; more of these would need noise.

    Args:
        config: Of the run.
        steps: How many; those of the sampler if None.
        spelt: See `check_request`.
    Raises:
        RequestError: If it adds noise or has more steps than the schedule, or if guidance changes on the way.
    """
    from ddpm_cli.config.schema.sample import ConsistencySampler, DdimSampler

    own, timesteps = config.sample.sampler, config.schedule.timesteps
    sampler = own if isinstance(own, DdimSampler) else DdimSampler(steps=1 if isinstance(own, ConsistencySampler) else None)
    if sampler.eta > 0:
        raise RequestError(f"The graph holds DDIM without noise, but the run's has eta {sampler.eta:g}.", "Use a run with eta = 0.")
    if config.sample.guidance.interval is not None:
        raise RequestError(
            "The graph holds one step that is repeated, but the run's guidance has an interval.", "Use a run without one."
        )
    if steps is not None and not 1 <= steps <= timesteps:
        raise RequestError(f"{spelt('steps')} {steps} must be from 1 to {timesteps}.", "Choose another number.")
    return sampler if steps is None else sampler.model_copy(update={"steps": steps})
