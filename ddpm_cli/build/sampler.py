"""Build what draws samples, from a `[sample]` section. It imports no torch before that is asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, assert_never

from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.schema.sample import (
    ClampThreshold,
    DdimSampler,
    DdpmSampler,
    DpmSolverSampler,
    DynamicThreshold,
    EulerSampler,
    HeunSampler,
    KarrasSpacing,
    ListSpacing,
    LogsnrSpacing,
    NoThreshold,
    UnipcSampler,
)
from ddpm_cli.config.schema.schedule import LearnedSchedule
from ddpm_cli.diffusion.schedules import NoiseSchedule
from ddpm_cli.errors import ConfigError, ScheduleError

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import ChurnedSampler, GuidanceConfig, SamplerConfig, SpacingConfig, ThresholdConfig
    from ddpm_cli.config.schema.schedule import ScheduleConfig
    from ddpm_cli.diffusion.denoise import Predict, Threshold
    from ddpm_cli.diffusion.levels import Level
    from ddpm_cli.diffusion.samplers.churn import Churn
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
    """A sampler's step and the levels that it visits.

    A step may hold the history of its trajectory: build one for each.
    """
    levels = build_levels(config.spacing, schedule, config.number_of_steps(schedule.timesteps))
    return _build_step(config, schedule, len(levels)), levels


def _build_step(config: SamplerConfig, schedule: NoiseSchedule, steps: int) -> Step:
    from ddpm_cli.diffusion.samplers.ddim import ddim
    from ddpm_cli.diffusion.samplers.ddpm import ddpm
    from ddpm_cli.diffusion.samplers.dpm_solver import dpm_solver
    from ddpm_cli.diffusion.samplers.euler import euler
    from ddpm_cli.diffusion.samplers.heun import heun
    from ddpm_cli.diffusion.samplers.unipc import unipc

    match config:
        case DdpmSampler():
            return ddpm(variance=config.variance)
        case DdimSampler():
            return ddim(eta=config.eta)
        case EulerSampler():
            return euler(churn=_build_churn(config, schedule, steps))
        case HeunSampler():
            return heun(churn=_build_churn(config, schedule, steps))
        case DpmSolverSampler():
            return dpm_solver(order=config.order, sde=config.sde)
        case UnipcSampler():
            return unipc(order=config.order, variant=config.variant)
        case _:
            assert_never(config)


def _build_churn(config: ChurnedSampler, schedule: NoiseSchedule, steps: int) -> Churn:
    from ddpm_cli.diffusion.samplers.churn import Churn, churn_share

    s_max = math.inf if config.s_max is None else config.s_max
    return Churn(schedule.level_of_ratio, churn_share(steps, config.s_churn), config.s_min, s_max, config.s_noise)


def build_levels(config: SpacingConfig, schedule: NoiseSchedule, steps: int) -> list[Level]:
    """The levels of noise that a sampler visits."""
    from ddpm_cli.diffusion.timesteps import karras_levels, logsnr_levels, select_timesteps

    match config:
        case LogsnrSpacing():
            return logsnr_levels(schedule, steps, max_sigma=config.max_sigma)
        case KarrasSpacing():
            return karras_levels(schedule, steps, rho=config.rho, max_sigma=config.max_sigma)
        case ListSpacing():
            if config.timesteps is None:
                raise ScheduleError(
                    'Steps of the spacing "list" must be listed.', "Name them: --set sample.timesteps=[999, 700, 400]"
                )
            return [schedule.at(t) for t in config.timesteps]
        case _:
            return [schedule.at(t) for t in select_timesteps(schedule.timesteps, steps, config.kind)]


def check_steps(schedule: ScheduleConfig, *samplers: SamplerConfig) -> None:
    """Refuse samplers whose steps cannot be had of a schedule; those of a learned one are known when it is loaded. Needs no torch.

    Raises:
        ScheduleError: Naming what does not go together.
    """
    if isinstance(schedule, LearnedSchedule):
        return
    built = build_schedule(schedule)
    for sampler in samplers:
        build_levels(sampler.spacing, built, sampler.number_of_steps(built.timesteps))


def build_threshold(config: ThresholdConfig) -> Threshold | None:
    """How estimates of x_0 are kept in the range of images; None leaves them alone."""
    from ddpm_cli.diffusion.denoise import KeptNoise, clamp
    from ddpm_cli.diffusion.thresholding import dynamic_threshold

    match config:
        case NoThreshold():
            return None
        case ClampThreshold():
            bound: Threshold = clamp
        case DynamicThreshold():
            bound = dynamic_threshold(config.quantile)
        case _:
            assert_never(config)
    return KeptNoise(bound) if config.eps == "predicted" else bound
