"""Build what the network is trained for, from an `[objective]` section. It imports no torch before that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from ddpm_cli.config.schema.objective import (
    EdmParameterization,
    EpsParameterization,
    HybridLoss,
    LogitNormalTimesteps,
    LogNormalTimesteps,
    LossAwareTimesteps,
    MinSnrWeighting,
    SimpleLoss,
    StratifiedTimesteps,
    UniformTimesteps,
    VlbLoss,
    VParameterization,
    X0Parameterization,
)

if TYPE_CHECKING:
    from ddpm_cli.config.schema.objective import ObjectiveConfig, WeightingConfig
    from ddpm_cli.diffusion.objectives.losses import Loss
    from ddpm_cli.diffusion.objectives.timestep_draws import TimestepSampler
    from ddpm_cli.diffusion.objectives.weightings import Weighting
    from ddpm_cli.diffusion.prediction import X0, Edm, Eps, V


def build_prediction(config: ObjectiveConfig) -> Eps | X0 | V | Edm:
    """What the network of an `[objective]` section predicts."""
    from ddpm_cli.diffusion.prediction import X0, Edm, Eps, V

    match config.parameterization:
        case EpsParameterization():
            return Eps()
        case X0Parameterization():
            return X0()
        case VParameterization():
            return V()
        case EdmParameterization(sigma_data=sigma_data):
            return Edm(sigma_data)
        case _:
            assert_never(config.parameterization)


def build_loss(config: ObjectiveConfig) -> Loss:
    """The loss of an `[objective]` section."""
    from functools import partial

    from ddpm_cli.diffusion.objectives.losses import hybrid_losses, p_losses, vlb_losses

    prediction, weighting = build_prediction(config), _build_weighting(config.weighting)
    match config.loss:
        case SimpleLoss():
            return partial(p_losses, prediction=prediction, weighting=weighting)
        case VlbLoss():
            return partial(vlb_losses, prediction=prediction, variance=config.reverse_variance)
        case HybridLoss(vlb_share=share):
            return partial(hybrid_losses, prediction=prediction, weighting=weighting, vlb_share=share)
        case _:
            assert_never(config.loss)


def _build_weighting(config: WeightingConfig) -> Weighting:
    from ddpm_cli.diffusion.objectives.weightings import MinSnr

    return MinSnr(config.gamma) if isinstance(config, MinSnrWeighting) else config.kind


def build_timestep_sampler(objective: ObjectiveConfig, timesteps: int) -> TimestepSampler:
    """How training draws its steps out of T = `timesteps`; a loss-aware one belongs to one run."""
    from ddpm_cli.diffusion.objectives.timestep_draws import FlatDraws, LogitNormalDraws, LogNormalDraws, LossAwareDraws

    config = objective.timesteps
    match config:
        case UniformTimesteps() | StratifiedTimesteps():
            return FlatDraws(config.kind)
        case LogitNormalTimesteps():
            return LogitNormalDraws(config.mean, config.std)
        case LogNormalTimesteps():
            # The bound has terms for steps alone, and other networks know nothing else.
            any_level = isinstance(objective.parameterization, EdmParameterization) and isinstance(objective.loss, SimpleLoss)
            return LogNormalDraws(config.p_mean, config.p_std, between_steps=any_level)
        case LossAwareTimesteps():
            return LossAwareDraws(timesteps, config.history, config.uniform_share)
        case _:
            assert_never(config)
