"""From config to objects: the only place where the two meet.

Heavy imports stay inside the functions, so that a schedule can be built without importing torch.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

import numpy as np

from ddpm_cli.config.objective_schema import (
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
from ddpm_cli.config.sample_schema import (
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
from ddpm_cli.config.schedule_schema import LearnedSchedule, TableSchedule
from ddpm_cli.diffusion.schedules import NoiseSchedule, adjusted, make_beta_schedule
from ddpm_cli.engine.build_data import build_dataset as build_dataset
from ddpm_cli.engine.build_data import with_absolute_paths
from ddpm_cli.errors import ConfigError, ScheduleError
from ddpm_cli.paths import user_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import torch
    from torch import Tensor, optim

    from ddpm_cli.config.objective_schema import ObjectiveConfig, TimestepsConfig, WeightingConfig
    from ddpm_cli.config.sample_schema import ChurnedSampler, GuidanceConfig, SamplerConfig, SpacingConfig, ThresholdConfig
    from ddpm_cli.config.schedule_schema import ScheduleConfig
    from ddpm_cli.config.schema import Config, ModelConfig, OptimizerConfig
    from ddpm_cli.diffusion.denoise import Predict, Threshold
    from ddpm_cli.diffusion.learned_schedule import GammaNetwork, ScheduleLearner
    from ddpm_cli.diffusion.losses import Loss
    from ddpm_cli.diffusion.parameterization import Parameterization
    from ddpm_cli.diffusion.samplers.churn import Churn
    from ddpm_cli.diffusion.sampling import Step
    from ddpm_cli.diffusion.timestep_draws import TimestepSampler
    from ddpm_cli.diffusion.weightings import Weighting
    from ddpm_cli.models.unet import UNet


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
    from ddpm_cli.engine.schedule_table import read_schedule_table, require_length

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
    from ddpm_cli.diffusion.learned_schedule import GammaNetwork

    gamma = GammaNetwork(config.gamma_min - config.logsnr_shift, config.gamma_max - config.logsnr_shift, config.endpoint_range)
    if weights is not None:
        from ddpm_cli.engine.weights import load_weights

        load_weights(gamma, weights, origin)
    return gamma


def build_schedule_learner(config: Config) -> ScheduleLearner | None:
    """What trains a learned schedule beside the model; None if the schedule is not learned."""
    if not isinstance(config.schedule, LearnedSchedule):
        return None
    from ddpm_cli.diffusion.learned_schedule import ScheduleLearner

    kind = config.objective.parameterization.kind
    if kind == "edm":
        raise ConfigError("A learned schedule cannot train with EDM's parameterization.", 'Set objective.parameterization = "v".')
    return ScheduleLearner(
        build_gamma(config.schedule), config.schedule.timesteps, kind, config.schedule.learning_rate, config.train.batch_size
    )


def build_parameterization(config: ObjectiveConfig) -> Parameterization:
    """What the network of an `[objective]` section predicts."""
    from ddpm_cli.diffusion.edm import Edm

    kind = config.parameterization
    return Edm(kind.sigma_data) if isinstance(kind, EdmParameterization) else kind.kind


def build_loss(config: ObjectiveConfig) -> Loss:
    """The loss of an `[objective]` section."""
    from functools import partial

    from ddpm_cli.diffusion.losses import hybrid_losses, p_losses, vlb_losses

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
    from ddpm_cli.diffusion.weightings import MinSnr

    return MinSnr(config.gamma) if isinstance(config, MinSnrWeighting) else config.kind


def build_timestep_sampler(config: TimestepsConfig, timesteps: int) -> TimestepSampler:
    """How training draws its steps out of T = `timesteps`; a loss-aware one belongs to one run."""
    from ddpm_cli.diffusion.timestep_draws import FlatDraws, LogitNormalDraws, LogNormalDraws, LossAwareDraws

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


def build_network(config: Config, image_shape: tuple[int, int, int]) -> UNet:
    """The network of a whole config, which predicts its variance too if the objective trains that; see `build_model`."""
    return build_model(config.model, image_shape, learned_variance=config.objective.reverse_variance == "learned-range")


def build_model(config: ModelConfig, image_shape: tuple[int, int, int], *, learned_variance: bool = False) -> UNet:
    """The network of a `[model]` section for images of `image_shape` (channels, height, width).

    With a learned variance it has twice the images' channels as its output.

    Raises:
        ConfigError: If the sizes do not fit together, or the weights do not fit into the machine's memory.
    """
    import torch

    from ddpm_cli.models.unet import UNet

    channels, height, width = image_shape
    resolved_classes(config)
    out_channels = 2 * channels if learned_variance else channels

    def build() -> UNet:
        return UNet(in_channels=channels, image_size=(height, width), out_channels=out_channels, **config.model_dump())

    if torch.get_default_device().type != "meta":
        with torch.device("meta"):
            _require_memory(build())
    return build()


def _require_memory(network: UNet) -> None:
    import psutil

    wanted = sum(parameter.nbytes for parameter in network.parameters())
    memory = psutil.virtual_memory().total
    if wanted > memory:
        raise ConfigError(
            f"The network's weights alone need {wanted / 1e9:,.0f} GB of memory, but this machine has {memory / 1e9:,.0f}.",
            "Lower model.base_channels or model.channel_mult.",
        )


def resolved_classes(config: ModelConfig) -> int | None:
    """The number of classes that the network takes labels of; None if it takes none.

    Raises:
        ConfigError: If it is still to be taken from the data (see `with_classes`).
    """
    if isinstance(config.num_classes, str):
        raise ConfigError('model.num_classes is "auto", but no data set is at hand to count.', "Give the number of classes.")
    return config.num_classes


def with_classes(config: Config, class_names: Sequence[str]) -> Config:
    """A config whose `model.num_classes` is a number or None: "auto" becomes the number of the data's classes.

    Raises:
        ConfigError: If the data has no classes, or another number of them than the config says.
    """
    wanted, found = config.model.num_classes, len(class_names) if len(class_names) > 1 else 0
    if wanted is None:
        return config
    if wanted not in ("auto", found) or not found:
        raise ConfigError(
            f"model.num_classes is {wanted}, but {config.data.kind} has {found or 'no'} classes.",
            "Set model.num_classes = " + ("auto" if found else "none") + ".",
        )
    return config.model_copy(update={"model": config.model.model_copy(update={"num_classes": found})})


def build_guided(config: GuidanceConfig, predict: Predict, schedule: NoiseSchedule, num_classes: int | None) -> Predict:
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

    return guided(predict, schedule, num_classes, **config.model_dump())


def build_optimizer(config: OptimizerConfig, parameters: Iterable[Tensor], device: torch.device) -> optim.Adam:
    """The optimizer of an `[optimizer]` section; all parameters go through one kernel where that can skip a step by itself."""
    from torch import optim

    from ddpm_cli.engine.optimizer import SKIPPING_DEVICES

    cls: type[optim.Adam] = {"adam": optim.Adam, "adamw": optim.AdamW}[config.kind]
    fused = device.type in SKIPPING_DEVICES
    return cls(parameters, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay, fused=fused)


def build_sampler(config: SamplerConfig, schedule: NoiseSchedule) -> tuple[Step, list[int]]:
    """A sampler's step and the list of steps it visits.

    A step may hold the history of its trajectory: build one for each.
    """
    timesteps = build_timesteps(config.spacing, schedule, config.number_of_steps(schedule.timesteps))
    return _build_step(config, schedule, len(timesteps)), timesteps


def _build_step(config: SamplerConfig, schedule: NoiseSchedule, steps: int) -> Step:
    from ddpm_cli.diffusion.samplers.ddim import ddim
    from ddpm_cli.diffusion.samplers.ddpm import ddpm
    from ddpm_cli.diffusion.samplers.dpm_solver import dpm_solver
    from ddpm_cli.diffusion.samplers.euler import euler
    from ddpm_cli.diffusion.samplers.heun import heun
    from ddpm_cli.diffusion.samplers.unipc import unipc

    match config:
        case DdpmSampler():
            return ddpm(schedule, variance=config.variance)
        case DdimSampler():
            return ddim(schedule, eta=config.eta)
        case EulerSampler():
            return euler(schedule, churn=_build_churn(config, steps))
        case HeunSampler():
            return heun(schedule, churn=_build_churn(config, steps))
        case DpmSolverSampler():
            return dpm_solver(schedule, order=config.order, sde=config.sde)
        case UnipcSampler():
            return unipc(schedule, order=config.order, variant=config.variant)
        case _:
            assert_never(config)


def _build_churn(config: ChurnedSampler, steps: int) -> Churn:
    from ddpm_cli.diffusion.samplers.churn import Churn

    s_max = math.inf if config.s_max is None else config.s_max
    return Churn.over(steps, config.s_churn, config.s_min, s_max, config.s_noise)


def build_timesteps(config: SpacingConfig, schedule: NoiseSchedule, steps: int) -> list[int]:
    """The steps that a sampler visits."""
    from ddpm_cli.diffusion.timesteps import karras_timesteps, logsnr_timesteps, select_timesteps

    match config:
        case LogsnrSpacing():
            return logsnr_timesteps(schedule, steps, max_sigma=config.max_sigma)
        case KarrasSpacing():
            return karras_timesteps(schedule, steps, rho=config.rho, max_sigma=config.max_sigma)
        case ListSpacing():
            if config.timesteps is None:
                raise ScheduleError(
                    'Steps of the spacing "list" must be listed.', "Name them: --set sample.timesteps=[999, 700, 400]"
                )
            return list(config.timesteps)
        case _:
            return select_timesteps(schedule.timesteps, steps, config.kind)


def check_steps(schedule: ScheduleConfig, *samplers: SamplerConfig) -> None:
    """Refuse samplers whose steps cannot be had of a schedule; those of a learned one are known when it is loaded. Needs no torch.

    Raises:
        ScheduleError: Naming what does not go together.
    """
    if isinstance(schedule, LearnedSchedule):
        return
    built = build_schedule(schedule)
    for sampler in samplers:
        build_timesteps(sampler.spacing, built, sampler.number_of_steps(built.timesteps))


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
