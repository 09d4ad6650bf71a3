"""Build what draws samples, from a `[sample]` section. It imports no torch before that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.schema.schedule import LearnedSchedule
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.errors import ConfigError

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import GuidanceConfig, SamplerConfig
    from ddpm_cli.config.schema.schedule import ScheduleConfig
    from ddpm_cli.diffusion.denoise import Predict
    from ddpm_cli.diffusion.levels import Level
    from ddpm_cli.diffusion.sampling import Step


def build_guided(config: GuidanceConfig, predict: Predict, num_classes: int | None) -> Predict:
    """Guide a prediction as a `[sample.guidance]` section says; the prediction itself if the network has no classes.

    Raises:
        ConfigError: If there is something to guide and the network has no classes.
    """
    if num_classes is None:
        if config.scale != 1.0:
            raise ConfigError(
                f"The model was trained without class labels, so that guidance (scale {config.scale}) has nothing to follow.",
                "Train one with --set model.num_classes=auto.",
            )
        return predict
    from ddpm_cli.diffusion.guidance import guided

    return guided(predict, num_classes, **config.model_dump())


def build_sampler(config: SamplerConfig, schedule: NoiseSchedule) -> tuple[Step, list[Level]]:
    """Build a sampler's step and the levels that it visits.

    A step may hold the history of its trajectory: build one for each.
    """
    levels = config.spacing.build(schedule, config.number_of_steps(schedule.timesteps))
    return config.build(schedule, len(levels)), levels


def check_steps(schedule: ScheduleConfig, *samplers: SamplerConfig) -> None:
    """Refuse samplers whose steps cannot be had of a schedule; those of a learned one are known when it is loaded. Needs no torch.

    Raises:
        ScheduleError: Naming what does not go together.
    """
    if isinstance(schedule, LearnedSchedule):
        return
    built = build_schedule(schedule)
    for sampler in samplers:
        sampler.spacing.build(built, sampler.number_of_steps(built.timesteps))
