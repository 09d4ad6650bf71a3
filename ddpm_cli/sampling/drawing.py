"""Tell how samples were drawn, as the facts that stand beside a figure of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ddpm_cli.config.schema.sample import DdpmSampler, HeunSampler, LeadingSpacing, ListSpacing
from ddpm_cli.results.events import Notice

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.config.schema.objective import ObjectiveConfig
    from ddpm_cli.config.schema.sample import GuideConfig, SampleConfig, SamplerConfig
    from ddpm_cli.config.schema.section import Section
    from ddpm_cli.diffusion.levels import Schedule

NO_OPTIONS = "{}"


def sampler_notices(sampler: SamplerConfig, schedule: Schedule, objective: ObjectiveConfig, where: str) -> Iterator[Notice]:
    """Say where a sampler's steps do not serve it, or the sampler the model.

    Args:
        sampler: The sampler.
        schedule: The model's, as `SampleConfig.seen` shows it.
        objective: That the model was trained by.
        where: The section that it stands in, such as "sample.sampler".
    """
    from ddpm_cli.diffusion.samplers.heun import errors_on_gaussian_data

    steps, T = sampler.number_of_steps(schedule.timesteps), schedule.timesteps
    if objective.chooses_noise and sampler.adds_noise:
        yield Notice(
            f"The sampler {sampler.kind} adds noise on its way, which is right where noise does not depend on the image. This "
            "model chose its noise in training (objective.coupling, noise_candidates), and such samples vary too little. Set "
            f"{where}.kind = ddim, which adds none.",
            important=True,
        )
    listed = sampler.spacing.timesteps if isinstance(sampler.spacing, ListSpacing) else None
    if listed and listed[0] < T - 1:
        first = listed[0]
        yield Notice(
            f"The listed steps begin at {first}, where the model expects images that are noisy in part, but sampling begins with "
            f"noise alone, which belongs to {T - 1}. Begin the list with {T - 1}.",
            important=True,
        )
    if isinstance(sampler.spacing, LeadingSpacing) and not schedule.is_continuous and T // 2 < steps < T:
        yield Notice(
            f"Leading spacing takes every step below {steps - 1} and none between there and {T - 1}, because {steps} is more than "
            f"half of {T}. Set {where}.spacing.kind = trailing.",
            important=True,
        )
    if isinstance(sampler, HeunSampler) and sampler.line(schedule) == "sigma":
        euler, heun = errors_on_gaussian_data([level.ratio for level in sampler.spacing.build(schedule, steps)])
        if heun > euler:
            yield Notice(
                f"Heun's method is worse than Euler's with these {steps} steps of {sampler.spacing.kind} spacing: its correction "
                f"overshoots where a step is long. Take more steps, trailing spacing, or {where}.kind = dpm-solver++.",
                important=True,
            )


def drawing_facts(sample: SampleConfig, timesteps: int) -> dict[str, str | int | float]:
    """List all settings of sampling that change samples; options as JSON objects, NO_OPTIONS where they are as they come.

    Args:
        sample: The settings.
        timesteps: T of the model's schedule.
    """
    sampler, guidance, threshold = sample.sampler, sample.guidance, sample.threshold
    return {
        "sampler": sampler.kind,
        "steps": sampler.number_of_steps(timesteps),
        "evaluations": sampler.evaluations(timesteps),
        "sampler_options": _options(_usual_variance(sampler), "kind", "steps"),
        "threshold": threshold.kind,
        "threshold_options": _options(threshold, "kind"),
        "guidance": guidance.scale,
        "guidance_options": _options(guidance, "scale"),
        **({} if sample.path.is_own else {"path": sample.path.kind, "path_options": _options(sample.path, "kind")}),
        **_guide_facts(sample.guide),
    }


def _guide_facts(guide: GuideConfig) -> dict[str, str | int | float]:
    """Those of a guide; figures that were measured without one do not tell of it."""
    if guide.model is None:
        return {}
    return {"guide": guide.model, "guide_scale": guide.scale, "guide_options": _options(guide, "model", "scale")}


def with_learned_variance(config: Config, sample: SampleConfig) -> SampleConfig:
    """Name a variance that is "auto", for a model that learned one."""
    sampler = sample.sampler
    if not (
        isinstance(sampler, DdpmSampler) and sampler.variance == "auto" and config.objective.reverse_variance == "learned-range"
    ):
        return sample
    return sample.model_copy(update={"sampler": sampler.model_copy(update={"variance": "learned-range"})})


def _usual_variance(sampler: SamplerConfig) -> SamplerConfig:
    """The sampler without "fixed-small", which is what "auto" stands for and what older figures do not name."""
    named = isinstance(sampler, DdpmSampler) and sampler.variance == "fixed-small"
    return sampler.model_copy(update={"variance": "auto"}) if named else sampler


def _options(section: Section, *named: str) -> str:
    """What was changed of a section, those apart that have a fact of their own."""
    return json.dumps(section.model_dump(mode="json", exclude=set(named), exclude_defaults=True))
