"""Check samplers against a schedule. It imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.schema.schedule import LearnedSchedule

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import SamplerConfig
    from ddpm_cli.config.schema.schedule import ScheduleConfig


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
