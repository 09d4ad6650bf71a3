"""From config to objects: the only place where the two meet.

Heavy imports stay inside the functions, so that a schedule can be built without importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from ddpm_cli.config.schema import (
    Cifar10Data,
    DdimSampler,
    DdpmSampler,
    DpmSolverSampler,
    FashionMnist10kData,
    FashionMnistData,
)
from ddpm_cli.diffusion.schedules import NoiseSchedule, make_beta_schedule
from ddpm_cli.events import Listener, ignore

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from torch import Tensor

    from ddpm_cli.config.schema import DataConfig, ModelConfig, OptimizerConfig, SamplerConfig, ScheduleConfig
    from ddpm_cli.data.images import Dataset
    from ddpm_cli.diffusion.sampling import Step
    from ddpm_cli.models.unet import UNet


def build_schedule(config: ScheduleConfig) -> NoiseSchedule:
    """The noise schedule of a `[schedule]` section; needs no torch."""
    return NoiseSchedule.from_betas(make_beta_schedule(**config.model_dump()))


def build_dataset(config: DataConfig, on_event: Listener = ignore) -> Dataset:
    """The images of a `[data]` section, in memory as uint8; `on_event` hears of downloads."""
    dataset = _load_dataset(config, on_event)
    if config.limit is None:
        return dataset
    from ddpm_cli.data.images import with_limit

    return with_limit(dataset, config.limit)


def _load_dataset(config: DataConfig, on_event: Listener) -> Dataset:
    from ddpm_cli.data.cifar10 import load_cifar10
    from ddpm_cli.data.fashion_mnist import load_fashion_mnist, load_fashion_mnist_10k

    match config:
        case FashionMnistData():
            return load_fashion_mnist(config.root, on_event)
        case FashionMnist10kData():
            return load_fashion_mnist_10k()
        case Cifar10Data():
            return load_cifar10(config.root, on_event)
        case _:
            assert_never(config)


def build_model(config: ModelConfig, image_shape: tuple[int, int, int]) -> UNet:
    """The network of a `[model]` section for images of `image_shape` (channels, height, width)."""
    from ddpm_cli.models.unet import UNet

    channels, height, width = image_shape
    return UNet(in_channels=channels, image_size=(height, width), **config.model_dump())


def build_optimizer(config: OptimizerConfig, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """The optimizer of an `[optimizer]` section."""
    from torch import optim

    cls: type[optim.Adam] = {"adam": optim.Adam, "adamw": optim.AdamW}[config.kind]
    return cls(parameters, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay)


def build_sampler(config: SamplerConfig, schedule: NoiseSchedule) -> tuple[Step, list[int]]:
    """A sampler's step and the list of steps it visits.

    A step may hold the history of its trajectory: build one for each.
    """
    from ddpm_cli.diffusion.samplers.ddim import ddim
    from ddpm_cli.diffusion.samplers.ddpm import ddpm
    from ddpm_cli.diffusion.samplers.dpm_solver import dpm_solver
    from ddpm_cli.diffusion.timesteps import select_timesteps

    timesteps = select_timesteps(schedule.timesteps, config.evaluations(schedule.timesteps), config.spacing)
    match config:
        case DdpmSampler():
            return ddpm(schedule, variance=config.variance), timesteps
        case DdimSampler():
            return ddim(schedule, eta=config.eta), timesteps
        case DpmSolverSampler():
            return dpm_solver(schedule, order=config.order), timesteps
        case _:
            assert_never(config)
