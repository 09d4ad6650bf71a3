"""Build the noise schedule of a `[schedule]` section. It imports no torch, unless the schedule is learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddpm_cli.build.data import with_absolute_paths
from ddpm_cli.config.schema.schedule import LearnedSchedule, TableSchedule
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.diffusion.schedules import NoiseSchedule, adjusted, make_beta_schedule
from ddpm_cli.errors import ConfigError, ScheduleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.config.schema.schedule import ScheduleConfig
    from ddpm_cli.diffusion.objectives.learned_schedule import GammaNetwork, ScheduleLearner


def build_schedule(
    config: ScheduleConfig, weights: Mapping[str, Tensor] | None = None, origin: Path = Path("the weights")
) -> NoiseSchedule:
    """The noise schedule of a `[schedule]` section; needs no torch, unless it is learned.

    Args:
        config: The section.
        weights: Of a learned schedule's network; None gives the schedule that its training starts from.
        origin: Where the weights came from, for an error.

    Raises:
        ScheduleError: If a table cannot be read or makes no schedule.
        CheckpointError: If the weights are not those of a learned schedule.
    """
    if isinstance(config, LearnedSchedule):
        return build_gamma(config, weights, origin).schedule(config.timesteps)
    if isinstance(config, TableSchedule):
        betas = np.array(with_betas(config).betas)
    else:
        betas = make_beta_schedule(**config.model_dump(exclude={"logsnr_shift", "zero_terminal_snr"}))
    schedule = NoiseSchedule.from_betas(betas)
    return adjusted(schedule, logsnr_shift=config.logsnr_shift, zero_terminal_snr=config.zero_terminal_snr)


def with_betas(config: TableSchedule) -> TableSchedule:
    """A table schedule that holds its betas instead of the path of their file.

    Raises:
        ScheduleError: If there is no table, it cannot be read, or it has not T values.
    """
    from ddpm_cli.build.schedule_table import read_schedule_table, require_length

    betas = config.betas
    if config.path is not None:
        path = user_path(config.path, "schedule.path", ScheduleError)
        betas = tuple(read_schedule_table(path, config.values, config.timesteps).tolist())
    if betas is None:
        raise ScheduleError('A schedule of kind "table" needs a table.', "Name its file: --set schedule.path=FILE")
    require_length("schedule.betas", len(betas), config.timesteps)
    return config.model_copy(update={"path": None, "values": None, "betas": betas})


def self_contained(config: Config) -> Config:
    """A config that means the same tomorrow and elsewhere: a table schedule holds its betas, and paths of data are absolute.

    Raises:
        ScheduleError: If the table cannot be used, see with_betas.
    """
    schedule = with_betas(config.schedule) if isinstance(config.schedule, TableSchedule) else config.schedule
    return config.model_copy(update={"schedule": schedule, "data": with_absolute_paths(config.data)})


def build_gamma(
    config: LearnedSchedule, weights: Mapping[str, Tensor] | None = None, origin: Path = Path("the weights")
) -> GammaNetwork:
    """The network of a learned schedule; a shift of log SNR moves its endpoints. For the arguments see build_schedule."""
    from ddpm_cli.diffusion.objectives.learned_schedule import GammaNetwork

    gamma = GammaNetwork(config.gamma_min - config.logsnr_shift, config.gamma_max - config.logsnr_shift, config.endpoint_range)
    if weights is not None:
        from ddpm_cli.core.compute.weights import load_weights

        load_weights(gamma, weights, origin)
    return gamma


def build_schedule_learner(config: Config) -> ScheduleLearner | None:
    """What trains a learned schedule beside the model; None if the schedule is not learned."""
    if not isinstance(config.schedule, LearnedSchedule):
        return None
    from ddpm_cli.diffusion.objectives.learned_schedule import ScheduleLearner
    from ddpm_cli.diffusion.prediction import Edm

    prediction = config.objective.build_prediction()
    if isinstance(prediction, Edm):
        raise ConfigError("A learned schedule cannot train with EDM's parameterization.", 'Set objective.parameterization = "v".')
    return ScheduleLearner(
        build_gamma(config.schedule), config.schedule.timesteps, prediction, config.schedule.learning_rate, config.train.batch_size
    )
