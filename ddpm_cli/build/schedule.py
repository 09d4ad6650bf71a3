"""Build the noise schedule of a `[schedule]` section. It imports no torch, unless the schedule is learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.build.data import with_absolute_paths
from ddpm_cli.config.schema.schedule import LearnedSchedule
from ddpm_cli.data.scale import USUAL
from ddpm_cli.diffusion.levels import Schedule
from ddpm_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.config.schema.schedule import ScheduleConfig
    from ddpm_cli.diffusion.objectives.learned_schedule import GammaNetwork, ScheduleLearner


def build_schedule(
    config: ScheduleConfig, weights: Mapping[str, Tensor] | None = None, origin: Path = Path("the weights")
) -> Schedule:
    """Build the noise schedule of a `[schedule]` section; needs no torch, unless it is learned.

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
    return config.build()


def self_contained(config: Config) -> Config:
    """Make a config mean the same tomorrow and elsewhere: a table schedule holds its betas, and paths of data are absolute.

    Raises:
        ScheduleError: If the table cannot be used.
    """
    return config.model_copy(update={"schedule": config.schedule.self_contained(), "data": with_absolute_paths(config.data)})


def build_gamma(
    config: LearnedSchedule, weights: Mapping[str, Tensor] | None = None, origin: Path = Path("the weights")
) -> GammaNetwork:
    """Build the network of a learned schedule; a shift of log SNR moves its endpoints. For the arguments see build_schedule."""
    from ddpm_cli.diffusion.objectives.learned_schedule import GammaNetwork

    gamma = GammaNetwork(config.gamma_min - config.logsnr_shift, config.gamma_max - config.logsnr_shift, config.endpoint_range)
    if weights is not None:
        from ddpm_cli.core.compute.weights import load_weights

        load_weights(gamma, weights, origin)
    return gamma


def build_schedule_learner(config: Config, levels: int | None = USUAL.levels) -> ScheduleLearner | None:
    """Build what trains a learned schedule beside the model, of pixels of so many values; None if the schedule is not learned."""
    if not isinstance(config.schedule, LearnedSchedule):
        return None
    from ddpm_cli.diffusion.objectives.learned_schedule import ScheduleLearner
    from ddpm_cli.diffusion.objectives.vlb import LEVELS
    from ddpm_cli.diffusion.prediction import X0, Eps, V

    prediction = config.objective.build_prediction()
    if not isinstance(prediction, Eps | X0 | V):
        kind = config.objective.parameterization.kind
        raise ConfigError(
            f'A learned schedule cannot train with the parameterization "{kind}".', 'Set objective.parameterization = "v".'
        )
    return ScheduleLearner(
        build_gamma(config.schedule),
        config.schedule.timesteps,
        prediction,
        config.schedule.learning_rate,
        config.train.batch_size,
        levels or LEVELS,  # of floats, whose endpoints do not move
    )
