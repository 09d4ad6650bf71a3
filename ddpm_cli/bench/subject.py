"""Prepare what is timed: our own trainer on random images, and our own sampler with its network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ddpm_cli.bench.peaks import DTYPES
from ddpm_cli.bench.timing import Work
from ddpm_cli.build.data import build_dataset
from ddpm_cli.config.schema.data import PicturesBase
from ddpm_cli.config.schema.sample import GuidanceConfig
from ddpm_cli.core.compute.compilation import wants_compiling
from ddpm_cli.data.images import Dataset, ImageSet
from ddpm_cli.results.events import Listener, ignore
from ddpm_cli.sampling.compiled import with_fast_network
from ddpm_cli.sampling.generate import generate_samples
from ddpm_cli.sampling.trained_model import TrainedModel
from ddpm_cli.training.trainer import Trainer

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.config.schema.data import DataConfig

SHAPES = {
    "fashion-mnist": (1, 28, 28),
    "fashion-mnist-10k": (1, 28, 28),
    "mnist": (1, 28, 28),
    "kmnist": (1, 28, 28),
    "emnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "svhn": (3, 32, 32),
}
"""Of the images of published sets, which need not be there to be timed."""
CLASSES_OF_AUTO = 10
STEPS_ON_CPU, STEPS_ELSEWHERE = 2, 20
"""Of one sampling. On a CPU what comes before and after them takes no time beside them."""


def image_shape(config: DataConfig, on_event: Listener = ignore) -> tuple[int, int, int]:
    """Tell channels, height and width of the images of a `[data]` section.

    The images are read only where the section does not say; `on_event` hears of that.

    Raises:
        DataError: If they must be read and cannot be.
    """
    if config.kind in SHAPES:
        return SHAPES[config.kind]
    if isinstance(config, PicturesBase) and config.size and isinstance(config.channels, int):
        return config.channels, *config.size
    return build_dataset(config, on_event).image_shape


def random_dataset(shape: tuple[int, int, int], images: int, classes: int) -> Dataset:
    """Make images of noise, which take as long as any others: uint8 [images, *shape]."""
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (images, *shape), dtype=np.uint8)
    names = tuple(str(number) for number in range(classes))
    images_of = ImageSet(pixels, draws.integers(0, max(classes, 1), images), names)
    return Dataset("random", "made for the benchmark", images_of, images_of, sha256="")


def number_of_classes(config: Config) -> int:
    """Count classes that the images must have for this config; 0 if none."""
    wanted = config.model.num_classes
    return CLASSES_OF_AUTO if isinstance(wanted, str) else wanted or 0


@dataclass(frozen=True)
class Setting:
    """Hold one point of a benchmark.

    Attributes:
        config: What is trained and sampled.
        dataset: Images to train on.
        batch_size: Images per optimizer step, and images denoised at a time.
        precision: fp32, bf16 or fp16.
        accelerator: Device, and the number format of training.
        on_event: Told of compiling.
    """

    config: Config
    dataset: Dataset
    batch_size: int
    precision: str
    accelerator: Accelerator
    on_event: Listener = ignore

    @property
    def device(self) -> torch.device:
        """Tell where everything is."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def sampling_steps(self) -> int:
        """Reverse steps of one sampling that is timed."""
        return min(STEPS_ON_CPU if self.device.type == "cpu" else STEPS_ELSEWHERE, self.config.schedule.timesteps)

    def another_accelerator(self) -> Accelerator:
        """Make another one alike, for a training of its own: an accelerator keeps all that it has prepared, and scales for one."""
        from accelerate import Accelerator

        return Accelerator(mixed_precision=self.accelerator.mixed_precision, cpu=self.device.type == "cpu")

    def autocast(self) -> torch.autocast:
        """Make a context in which networks sample in the number format."""
        return torch.autocast(self.device.type, DTYPES[self.precision], enabled=self.precision != "fp32")


def subject(setting: Setting, network: nn.Module | None = None) -> tuple[Work, Work]:
    """Prepare our training, in images, and sampling, in network evaluations times images; compiled where the config says so.

    Args:
        setting: What is timed.
        network: Takes the place of ours, see `Trainer`.
    """
    config = setting.config
    train = config.train.model_copy(update={"batch_size": setting.batch_size})
    config_of_size = config.model_copy(update={"train": train})
    trainer = Trainer(config_of_size, setting.dataset, setting.another_accelerator(), setting.on_event, network)
    trainer.compile()
    training = Work(trainer.train_step, setting.batch_size, compiled=trainer.predict is not trainer.network)
    return training, _sampling(trainer, setting)


def _sampling(trainer: Trainer, setting: Setting) -> Work:
    config, dataset, size = setting.config, setting.dataset, setting.batch_size
    sampler = config.sample.sampler.model_copy(update={"steps": setting.sampling_steps})
    update = {"sampler": sampler, "guidance": GuidanceConfig(), "batch_size": size}
    # The few steps that are timed stand for the many of a sampling that is worth compiling.
    update["compile"] = wants_compiling(config.sample.compile, setting.device)
    settings = config.sample.model_copy(update=update)
    trained = TrainedModel(
        trainer.ema.model, trainer.schedule, config, dataset.image_shape, Path("bench"), 0, dataset.train.class_names
    )
    with setting.autocast():
        trained = with_fast_network(trained, size, settings, setting.on_event)

    def sample() -> None:
        with setting.autocast():
            list(generate_samples(trained, range(size), settings))

    return Work(sample, size * sampler.evaluations(config.schedule.timesteps), compiled=trained.fast is not None)
