"""Build what the network is trained for, from an `[objective]` section. It imports no torch before that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from ddpm_cli.config.schema.objective import (
    EdmParameterization,
    HybridLoss,
    LogitNormalTimesteps,
    LogNormalTimesteps,
    LossAwareTimesteps,
    MinSnrWeighting,
    SimpleLoss,
    StratifiedTimesteps,
    UniformTimesteps,
    VlbLoss,
)

if TYPE_CHECKING:
    from ddpm_cli.config.schema.objective import ObjectiveConfig, TimestepsConfig, WeightingConfig
    from ddpm_cli.diffusion.objectives.losses import Loss
    from ddpm_cli.diffusion.objectives.timestep_draws import TimestepSampler
    from ddpm_cli.diffusion.objectives.weightings import Weighting
    from ddpm_cli.diffusion.parameterization import Parameterization


def build_parameterization(config: ObjectiveConfig) -> Parameterization:
    """What the network of an `[objective]` section predicts."""
    from ddpm_cli.diffusion.edm import Edm

    kind = config.parameterization
    return Edm(kind.sigma_data) if isinstance(kind, EdmParameterization) else kind.kind


def build_loss(config: ObjectiveConfig) -> Loss:
    """The loss of an `[objective]` section."""
    from functools import partial

    from ddpm_cli.diffusion.objectives.losses import hybrid_losses, p_losses, vlb_losses

    parameterization, weighting = build_parameterization(config), _build_weighting(config.weighting)
    match config.loss:
        case SimpleLoss():
            return partial(p_losses, parameterization=parameterization, weighting=weighting)
        case VlbLoss():
            return partial(vlb_losses, parameterization=parameterization, variance=config.reverse_variance)
        case HybridLoss(vlb_share=share):
            return partial(hybrid_losses, parameterization=parameterization, weighting=weighting, vlb_share=share)
        case _:
            assert_never(config.loss)


def _build_weighting(config: WeightingConfig) -> Weighting:
    from ddpm_cli.diffusion.objectives.weightings import MinSnr

    return MinSnr(config.gamma) if isinstance(config, MinSnrWeighting) else config.kind


def build_timestep_sampler(config: TimestepsConfig, timesteps: int) -> TimestepSampler:
    """How training draws its steps out of T = `timesteps`; a loss-aware one belongs to one run."""
    from ddpm_cli.diffusion.objectives.timestep_draws import FlatDraws, LogitNormalDraws, LogNormalDraws, LossAwareDraws

    match config:
        case UniformTimesteps() | StratifiedTimesteps():
            return FlatDraws(config.kind)
        case LogitNormalTimesteps():
            return LogitNormalDraws(config.mean, config.std)
        case LogNormalTimesteps():
            return LogNormalDraws(config.p_mean, config.p_std)
        case LossAwareTimesteps():
            return LossAwareDraws(timesteps, config.history, config.uniform_share)
        case _:
            assert_never(config)
