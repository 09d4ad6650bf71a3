"""Build the network of a `[model]` section and its optimizer. It imports no torch before that is asked for."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from ddpm_cli.build.data import build_augmentation
from ddpm_cli.core.wording import first_few
from ddpm_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn, optim

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.config.schema.model import ModelConfig
    from ddpm_cli.config.schema.optimizer import OptimizerConfig
    from ddpm_cli.models.base import Denoiser


def build_network(config: Config, image_shape: tuple[int, int, int]) -> Denoiser:
    """Build the network of a whole config, see `build_model`.

    It predicts its variance too if the objective trains that, and takes the vector of the augmentation if there is one.

    Raises:
        ConfigError: As `build_model` does, or if the network or images of this size cannot be augmented.
    """
    augmentation = build_augmentation(config.data, image_shape)
    network = build_model(config.model, image_shape, learned_variance=config.objective.reverse_variance == "learned-range")
    if augmentation is not None:
        network.take_augmentation(augmentation.vector_size)
    return network


def build_model(config: ModelConfig, image_shape: tuple[int, int, int], *, learned_variance: bool = False) -> Denoiser:
    """Build the network of a `[model]` section for images of `image_shape` (channels, height, width).

    With a learned variance it has twice the images' channels as its output.

    Raises:
        ConfigError: If the sizes do not fit together, or the weights do not fit into the machine's memory.
    """
    import torch

    out_channels = 2 * image_shape[0] if learned_variance else image_shape[0]
    if torch.get_default_device().type != "meta":
        with torch.device("meta"):
            _require_memory(config.build(image_shape, out_channels), config)
    return config.build(image_shape, out_channels)


def _require_memory(network: Denoiser, config: ModelConfig) -> None:
    import psutil

    wanted = sum(parameter.nbytes for parameter in network.parameters())
    memory = psutil.virtual_memory().total
    if wanted > memory:
        raise ConfigError(
            f"The network's weights alone need {wanted / 1e9:,.0f} GB of memory, but this machine has {memory / 1e9:,.0f}.",
            f"Take a smaller one: {config.makes_smaller}.",
        )


def with_classes(config: Config, class_names: Sequence[str], label_columns: Sequence[str] = ()) -> Config:
    """Make `model.num_classes` a number or None: "auto" becomes the number of the data's classes.

    Args:
        config: Of a run.
        class_names: Of the data.
        label_columns: See `Dataset.label_columns`.
    Raises:
        ConfigError: If the data has no classes, or another number of them than the config says.
    """
    wanted, found = config.model.num_classes, len(class_names) if len(class_names) > 1 else 0
    if wanted is None:
        return config
    if wanted not in ("auto", found) or not found:
        raise ConfigError(
            f"model.num_classes is {wanted}, but {config.data.kind} has {found or 'no'} classes{_unread(label_columns)}.",
            (f"Name the column: --set data.label_column={shlex.quote(label_columns[0])}; or set" if label_columns else "Set")
            + f" model.num_classes = {'auto' if found else 'none'}.",
        )
    return config.model_copy(update={"model": config.model.model_copy(update={"num_classes": found})})


def _unread(label_columns: Sequence[str]) -> str:
    return f", as no column is read for them; some may be in: {first_few(label_columns)}" if label_columns else ""


def build_optimizer(config: OptimizerConfig, network: nn.Module, device: torch.device) -> optim.Adam:
    """Build the optimizer of an `[optimizer]` section, with one kernel for all parameters where that can skip a step by itself."""
    from ddpm_cli.core.compute.skipping import SKIPPING_DEVICES

    optimizer = config.build(network, fused=device.type in SKIPPING_DEVICES)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer
