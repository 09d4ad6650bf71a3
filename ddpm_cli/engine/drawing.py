"""How samples were drawn, as the facts that stand beside a figure of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddpm_cli.config.sample_schema import SampleConfig
    from ddpm_cli.config.section import Section

NO_OPTIONS = "{}"


def drawing_facts(sample: SampleConfig, timesteps: int) -> dict[str, str | int | float]:
    """All settings of sampling that change samples; options as JSON objects, NO_OPTIONS where they are as they come.

    Args:
        sample: The settings.
        timesteps: T of the model's schedule.
    """
    sampler, guidance, threshold = sample.sampler, sample.guidance, sample.threshold
    return {
        "sampler": sampler.kind,
        "steps": sampler.number_of_steps(timesteps),
        "evaluations": sampler.evaluations(timesteps),
        "sampler_options": _options(sampler, "kind", "steps"),
        "threshold": threshold.kind,
        "threshold_options": _options(threshold, "kind"),
        "guidance": guidance.scale,
        "guidance_options": _options(guidance, "scale"),
    }


def _options(section: Section, *named: str) -> str:
    """What was changed of a section, those apart that have a fact of their own."""
    return json.dumps(section.model_dump(mode="json", exclude=set(named), exclude_defaults=True))
